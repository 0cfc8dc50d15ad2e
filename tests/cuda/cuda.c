/* A stand-in for libcuda.so.1 on a machine without a GPU: every function answers "no device", and cuInit is noted, with
   the process that called it, in the file that CUDA_STUB_LOG names. As in the driver itself, devices cannot be counted
   before cuInit has succeeded, which it never does here unless CUDA_STUB_INIT=1. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_INITIALIZED = 3, NO_DEVICE = 100 };
static int initialized;

int cuInit(unsigned flags) {
    const char *path = getenv("CUDA_STUB_LOG"), *succeeds = getenv("CUDA_STUB_INIT");
    int log = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0644) : -1;
    (void)flags;
    if (log >= 0) {
        dprintf(log, "%d\n", (int)getpid());
        close(log);
    }
    initialized = succeeds && *succeeds == '1';
    return initialized ? SUCCESS : NO_DEVICE;
}
int cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = 0; return initialized ? SUCCESS : NOT_INITIALIZED; }
int cuGetErrorString(int error, const char **text) { (void)error; *text = "no device (stand-in)"; return SUCCESS; }
int cuGetErrorName(int error, const char **text) { (void)error; *text = "CUDA_ERROR_NO_DEVICE"; return SUCCESS; }

#define ABSENT(name) int name(void) { return NO_DEVICE; }
ABSENT(absent)
/* What the libraries of PyTorch, vLLM and Triton are linked with. */
ABSENT(cuCtxCreate_v2) ABSENT(cuCtxGetApiVersion) ABSENT(cuCtxGetCurrent) ABSENT(cuCtxGetDevice) ABSENT(cuCtxGetLimit)
ABSENT(cuCtxPopCurrent_v2) ABSENT(cuCtxPushCurrent_v2) ABSENT(cuCtxResetPersistingL2Cache) ABSENT(cuCtxSetCurrent)
ABSENT(cuCtxSetLimit) ABSENT(cuCtxSynchronize) ABSENT(cuDeviceGet) ABSENT(cuDeviceGetAttribute) ABSENT(cuDeviceGetName)
ABSENT(cuDeviceGetPCIBusId) ABSENT(cuDeviceGetUuid) ABSENT(cuDevicePrimaryCtxGetState)
ABSENT(cuDevicePrimaryCtxRelease_v2) ABSENT(cuDevicePrimaryCtxRetain) ABSENT(cuDeviceTotalMem_v2) ABSENT(cuEventCreate)
ABSENT(cuFuncGetAttribute) ABSENT(cuFuncSetAttribute) ABSENT(cuFuncSetCacheConfig) ABSENT(cuGetExportTable)
ABSENT(cuLaunchCooperativeKernel) ABSENT(cuLaunchKernel) ABSENT(cuLaunchKernelEx) ABSENT(cuLinkAddData_v2)
ABSENT(cuLinkComplete) ABSENT(cuLinkCreate_v2) ABSENT(cuMemAddressFree) ABSENT(cuMemAddressReserve) ABSENT(cuMemAlloc_v2)
ABSENT(cuMemCreate) ABSENT(cuMemFree_v2) ABSENT(cuMemGetAllocationGranularity) ABSENT(cuMemGetInfo_v2) ABSENT(cuMemMap)
ABSENT(cuMemRelease) ABSENT(cuMemSetAccess) ABSENT(cuMemUnmap) ABSENT(cuMemcpyDtoHAsync_v2) ABSENT(cuMemcpyHtoDAsync_v2)
ABSENT(cuModuleGetFunction) ABSENT(cuModuleGetGlobal_v2) ABSENT(cuModuleLoad) ABSENT(cuModuleLoadData)
ABSENT(cuModuleLoadDataEx) ABSENT(cuModuleUnload) ABSENT(cuOccupancyMaxActiveBlocksPerMultiprocessor)
ABSENT(cuPointerGetAttribute) ABSENT(cuStreamCreate) ABSENT(cuStreamSetAttribute) ABSENT(cuStreamSynchronize)
ABSENT(cuTensorMapEncodeIm2col) ABSENT(cuTensorMapEncodeTiled)

int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, int *status) {
    (void)version, (void)flags;
    if (!strcmp(name, "cuInit")) *function = (void *)cuInit;
    else if (!strcmp(name, "cuDriverGetVersion")) *function = (void *)cuDriverGetVersion;
    else if (!strcmp(name, "cuDeviceGetCount")) *function = (void *)cuDeviceGetCount;
    else if (!strcmp(name, "cuGetProcAddress")) *function = (void *)cuGetProcAddress_v2;
    else *function = (void *)absent;
    if (status) *status = 0;
    return SUCCESS;
}
int cuGetProcAddress(const char *name, void **function, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}
