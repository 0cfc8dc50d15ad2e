/* A stand-in for libnvidia-ml.so.1: NVML_STUB_GPUS cards (1) named NVML_STUB_NAME, 80 GiB each, of the compute capability
   NVML_STUB_CAPABILITY (90 is 9.0), the first with one slice, MIG-0. Structures as in NVIDIA's nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_FOUND = 6 };
#define TOTAL 85520809984ULL
#define FREE 84900000000ULL
static char cards[16], slice;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;

static int setting(const char *name, int otherwise) { const char *text = getenv(name); return text ? atoi(text) : otherwise; }
static int count(void) { return setting("NVML_STUB_GPUS", 1); }
static int number(void *device) { return device == &slice ? 0 : (int)((char *)device - cards); }

int nvmlInit(void) { return OK; }
int nvmlInit_v2(void) { return OK; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int error) { (void)error; return "stand-in"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.95.05"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }

int nvmlDeviceGetCount(unsigned *cards_here) { *cards_here = count(); return OK; }
int nvmlDeviceGetCount_v2(unsigned *cards_here) { return nvmlDeviceGetCount(cards_here); }
int nvmlDeviceGetHandleByIndex(unsigned index, void **device) {
    if ((int)index >= count()) return INVALID;
    *device = &cards[index];
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { return nvmlDeviceGetHandleByIndex(index, device); }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    int last = uuid[strlen(uuid) - 1] - '0';
    if (!strcmp(uuid, "MIG-0")) { *device = &slice; return OK; }
    if (strncmp(uuid, "GPU-", 4) || last < 0 || last >= count()) return NOT_FOUND;
    *device = &cards[last];
    return OK;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **card) {
    if (device != &slice) return INVALID;
    *card = &cards[0];
    return OK;
}
int nvmlDeviceGetIndex(void *device, unsigned *index) { *index = number(device); return OK; }
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    const char *name = getenv("NVML_STUB_NAME");
    (void)device;
    snprintf(text, size, "%s", name ? name : "NVIDIA H100 80GB HBM3");
    return OK;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    if (device == &slice) snprintf(text, size, "MIG-0");
    else snprintf(text, size, "GPU-00000000-0000-0000-0000-00000000000%d", number(device));
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    int capability = setting("NVML_STUB_CAPABILITY", 90);
    (void)device;
    *major = capability / 10, *minor = capability % 10;
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    (void)device;
    *memory = (memory_t){TOTAL, FREE, TOTAL - FREE};
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2_t *memory) {
    (void)device;
    memory->total = TOTAL, memory->reserved = 0, memory->free = FREE, memory->used = TOTAL - FREE;
    return OK;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) { (void)device, (void)sensor; *celsius = 40; return OK; }
int nvmlDeviceGetClockInfo(void *device, int clock, unsigned *mhz) { (void)device, (void)clock; *mhz = 1980; return OK; }
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) { (void)device; *reasons = 0; return OK; }
int nvmlDeviceGetP2PStatus(void *a, void *b, int capability, int *status) { (void)a, (void)b, (void)capability; *status = 0; return OK; }
int nvmlDeviceGetNumaNodeId(void *device, unsigned *node) { (void)device; *node = 0; return OK; }
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) { (void)device; *current = *pending = 0; return OK; }
