"""What the fork server imports of vLLM and changes in it, so that engines can be forked.

Runs in the fork server only. A forked engine must behave as a fresh one, so whatever it would inherit differently is
corrected in the child: thread count, processor binding, metrics (`_apply_thread_environment` and its neighbour).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import pickle
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

SUPPORTED = ("0.25", "0.26", "0.27", "0.28", "0.29", "0.30", "0.31", "0.32", "0.33")
_PRELOADED = (
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.openai.api_server",
    "vllm.entrypoints.launchers.api_server.entry",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.worker_base",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.gpu_worker",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.model_loader.default_loader",
    "vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors",
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "torch._inductor.codegen.cpp",
    "vllm.v1.core.sched.scheduler",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "model_hosting_container_standards.sagemaker",
    "optimize.engine.worker_extension",
)
_ROUTERS = ("entrypoints/openai", "entrypoints/serve", "entrypoints/generate", "entrypoints/anthropic")


class Unsupported(Exception):
    """Why engines cannot be forked here."""


def _forking_multiprocessing() -> ModuleType:
    """A `multiprocessing` for one of vLLM's modules that forks where "spawn" is asked for."""
    replacement = ModuleType("multiprocessing")
    vars(replacement).update(vars(multiprocessing))
    vars(replacement)["get_context"] = lambda method=None: multiprocessing.get_context(
        "fork" if method == "spawn" else method
    )
    return replacement


def check_version(version: str) -> None:
    """Raise Unsupported for a vLLM release whose internals `adapt` was not written for."""
    if ".".join(version.split(".")[:2]) not in SUPPORTED:
        raise Unsupported(f"vLLM {version} is not one of {SUPPORTED[0]} to {SUPPORTED[-1]}")


def adapt() -> None:
    """Make vLLM fork its own processes, too.

    Raises:
        Unsupported: vLLM does not look as expected.
    """
    import torch
    import vllm.v1.utils
    from vllm.platforms import current_platform

    vllm.v1.utils.multiprocessing = _forking_multiprocessing()
    if current_platform.is_cpu():
        _fork_after_config_check(current_platform)
        _register_kernels_once(current_platform)
        _inspect_models(lambda inspect: inspect())
    else:
        _ask_the_driver(importlib.import_module("vllm.utils.system_utils"))
        _inspect_models(in_a_fork, without=driver_is_initialized)
    if torch.cuda.is_initialized() or driver_is_initialized():
        raise Unsupported("importing vLLM initialized CUDA")
    os.register_at_fork(after_in_child=_apply_thread_environment)
    os.register_at_fork(after_in_child=_apply_metrics_environment)


def driver_is_initialized() -> bool:
    """Whether this process has initialized CUDA's driver, which none of its forks could use then.

    Asked of the driver (cuDeviceGetCount: 3 before cuInit), because torch knows only what it has done itself.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:  # no driver
        return False
    return int(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))) == 0


def _ask_the_driver(system_utils: Any) -> None:
    """Have vLLM spawn its processes where composing an engine's configuration has initialized the driver.

    It does so by itself where torch has; with tensor parallelism, FlashInfer does it behind torch's back, and with a
    slice (MIG) CUDA is what counts the devices. The server is forked all the same, and its engine imports vLLM anew.

    Raises:
        Unsupported: vLLM does not ask.
    """
    original = getattr(system_utils, "cuda_is_initialized", None)
    if original is None:
        raise Unsupported("utils/system_utils.py does not ask whether CUDA is initialized before it forks")
    system_utils.cuda_is_initialized = lambda: original() or driver_is_initialized()


def _fork_after_config_check(platform: Any) -> None:
    """Restore the start method "fork", which vLLM's CPU platform sets to "spawn" whenever it checks a configuration."""
    cls: Any = platform if isinstance(platform, type) else type(platform)
    original = cls.check_and_update_config.__func__

    def check_and_update_config(this: Any, vllm_config: Any) -> None:
        original(this, vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    cls.check_and_update_config = classmethod(check_and_update_config)


def _register_kernels_once(platform: Any) -> None:
    """Search for replaceable kernels once, which each CPU worker does without Triton; forks inherit the result."""
    cls: Any = platform if isinstance(platform, type) else type(platform)
    if hasattr(cls, "register_triton_kernel_overrides"):  # from 0.27 on
        cls.register_triton_kernel_overrides()
        cls.register_triton_kernel_overrides = classmethod(lambda _: None)


def _inspect_models(run: Callable[[Callable[[], Any]], Any], without: Callable[[], bool] = lambda: False) -> None:
    """Have an engine look at its model's class without another import of vLLM, at the first start of each architecture.

    vLLM starts a process for it that imports vLLM anew, so that nothing initializes CUDA. A CPU has none, and with a
    GPU a fork is as good: it takes a second, where the import can take longer than a check of kernels may.

    Args:
        run: Calls what looks at the class, and returns its answer.
        without: Whether vLLM's own way is taken: forks of a process that has initialized CUDA cannot use it.
    """
    registry: Any = importlib.import_module("vllm.model_executor.models.registry")
    if hasattr(registry, "_run_in_subprocess"):  # 0.25 to 0.33
        original = registry._run_in_subprocess
        registry._run_in_subprocess = lambda inspect: original(inspect) if without() else run(inspect)


def in_a_fork(function: Callable[[], Any]) -> Any:
    """What a function returns in a fork of this process, which ends with it.

    Args:
        function: What it returns can be pickled.

    Raises:
        RuntimeError: it fails there, or the fork ends without an answer.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _answer(writer, function)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        received = stream.read()
    os.waitpid(pid, 0)
    if not received:
        raise RuntimeError("the process that looks at the model's class ended without an answer")
    value, error = pickle.loads(received)  # noqa: S301 - a fork of this process has written it
    if error:
        raise RuntimeError(error)
    return value


def _answer(writer: int, function: Callable[[], Any]) -> NoReturn:
    """In the fork: call, write (value, error) and end; an error of any kind is the caller's to handle."""
    try:
        try:
            answer = pickle.dumps((function(), ""))
        except Exception as error:
            answer = pickle.dumps((None, f"{type(error).__name__}: {error}"))
        with os.fdopen(writer, "wb") as stream:
            stream.write(answer)
    finally:
        os._exit(0)


def _apply_thread_environment() -> None:
    """Give a forked worker the thread count and processors that a fresh one reads from its environment.

    vLLM sets these variables around the start of each CPU worker. An OpenMP runtime reads them only when it is loaded,
    which has already happened in a fork. Other processes do not have the variables and stay as they are.
    """
    binding = os.environ.get("GOMP_CPU_AFFINITY") or os.environ.get("OMP_PLACES") or os.environ.get("KMP_AFFINITY")
    if not binding:
        return
    import torch

    processors = {int(number) for number in re.findall(r"\d+", binding)}
    os.sched_setaffinity(0, processors)
    torch.set_num_threads(len(processors))


def _apply_metrics_environment() -> None:
    """Let several API servers share their metrics, which the client library decides at its import, before the fork.

    vLLM sets the variable where there is more than one API server, and adds their figures up from files.
    """
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        values: Any = importlib.import_module("prometheus_client.values")
        values.ValueClass = values.get_value_class()


def preload() -> None:
    """Import what engines need, without modules that a release or build does not have."""
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            if name == _PRELOADED[0]:
                raise
    for name in _routers():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _routers() -> list[str]:
    """Names of vLLM's api_router modules, read from the disk: an API server imports most of them."""
    from optimize.engine.flags import vllm_root

    root = vllm_root()
    paths = [path for folder in _ROUTERS for path in (root / folder).rglob("api_router.py")]
    return [".".join(["vllm", *path.relative_to(root).with_suffix("").parts]) for path in sorted(paths)]
