"""Warm starts: a process that has imported vLLM once forks each engine, in two seconds instead of thirty.

Everything here that touches vLLM's internals is in `_adapt`. Three guards stand before it: the release must be one it
was written for, the source must look as expected (`optimize.engine.source_check`), and a fork must compute
(`_self_test`). Where one of them objects, the launcher starts engines cold. Run as
`python -m optimize.engine.fork_server`; commands come as JSON lines on standard input ({"start": {...}},
{"stop": grace_s}, {"ask": {...}}), events go out as the reaper's do, {"ready": true} or {"unfit": why} first,
{"said": why not} for each "ask".

What must hold in this process before a fork: no OpenMP parallel region has run, CUDA is untouched, no threads.
What a forked engine would otherwise inherit differently from a fresh one is put right in the child: environment,
random state, thread count and processor binding (see `_apply_thread_environment`).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import random
import re
import select
import signal
import sys
import tempfile
import threading
import time
from types import ModuleType
from typing import Any, NoReturn

from optimize.engine import source_check as layout
from optimize.engine.kernel_check import ask
from optimize.engine.reaper import POLL_S, SharedMemory, become_reaper, end_tree, reap, report, restore_signals
from optimize.engine.serve import serve

SUPPORTED = ("0.25", "0.26", "0.27", "0.28", "0.29", "0.30", "0.31", "0.32")
_PR_SET_PDEATHSIG = 1
_SELF_TEST_S = 20.0
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


class Unfit(Exception):
    """Why warm starts are not possible here."""


def _forking_multiprocessing() -> ModuleType:
    """A `multiprocessing` for one of vLLM's modules: whoever asks for "spawn" there gets "fork"."""
    stand_in = ModuleType("multiprocessing")
    vars(stand_in).update(vars(multiprocessing))
    vars(stand_in)["get_context"] = lambda method=None: multiprocessing.get_context(
        "fork" if method == "spawn" else method
    )
    return stand_in


def check_version(version: str) -> None:
    """Raise Unfit for a vLLM release whose internals `_adapt` was not written for."""
    if ".".join(version.split(".")[:2]) not in SUPPORTED:
        raise Unfit(f"vLLM {version} is not one of {SUPPORTED[0]} to {SUPPORTED[-1]}")


def _adapt() -> None:
    """Make vLLM fork its processes too.

    Raises:
        Unfit: vLLM does not look as expected.
    """
    import torch
    import vllm.v1.utils
    from vllm.platforms import current_platform

    vllm.v1.utils.multiprocessing = _forking_multiprocessing()
    if current_platform.is_cpu():
        _fork_after_config_check(current_platform)
        _register_kernels_once(current_platform)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        raise Unfit("importing vLLM initialized CUDA")
    os.register_at_fork(after_in_child=_apply_thread_environment)
    os.register_at_fork(after_in_child=_apply_metrics_environment)


def _fork_after_config_check(platform: Any) -> None:
    """vLLM's CPU platform sets the start method to "spawn" whenever it checks a configuration; set it back."""
    cls: Any = platform if isinstance(platform, type) else type(platform)
    original = cls.check_and_update_config.__func__

    def check_and_update_config(this: Any, vllm_config: Any) -> None:
        original(this, vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    cls.check_and_update_config = classmethod(check_and_update_config)


def _register_kernels_once(platform: Any) -> None:
    """Without Triton, vLLM's CPU worker looks through every module for kernels to replace; forks inherit the result."""
    cls: Any = platform if isinstance(platform, type) else type(platform)
    if hasattr(cls, "register_triton_kernel_overrides"):  # from 0.27 on
        cls.register_triton_kernel_overrides()
        cls.register_triton_kernel_overrides = classmethod(lambda _: None)


def _apply_thread_environment() -> None:
    """Give a forked worker the thread count and processors that a fresh one reads from its environment.

    vLLM sets these variables around the start of each CPU worker; an OpenMP runtime reads them only when it is loaded,
    which in a fork lies in the past. Elsewhere they are absent, and nothing happens.
    """
    binding = os.environ.get("GOMP_CPU_AFFINITY") or os.environ.get("OMP_PLACES") or os.environ.get("KMP_AFFINITY")
    if not binding:
        return
    import torch

    processors = {int(number) for number in re.findall(r"\d+", binding)}
    os.sched_setaffinity(0, processors)
    torch.set_num_threads(len(processors))


def _apply_metrics_environment() -> None:
    """Let several API servers share their metrics: the client library decides on that when it is imported, too early.

    vLLM sets the variable where there is more than one API server; it then adds their figures up from files.
    """
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        values: Any = importlib.import_module("prometheus_client.values")
        values.ValueClass = values.get_value_class()


def _preload() -> None:
    """Import what engines need; modules that a release or build does not have are left out."""
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
    """Names of vLLM's api_router modules, read off the disk: an API server imports most of them."""
    from optimize.engine.flags import vllm_root

    root = vllm_root()
    found = [path for folder in _ROUTERS for path in (root / folder).rglob("api_router.py")]
    return [".".join(["vllm", *path.relative_to(root).with_suffix("").parts]) for path in sorted(found)]


def _prepare() -> None:
    from optimize.engine.flags import vllm_distribution, vllm_root

    check_version(vllm_distribution()[1])
    if found := layout.problems(layout.outline(vllm_root())):
        raise Unfit(found[0])
    gc.disable()  # collections among ten thousand new modules take a fifth of the import
    try:
        _preload()
        _adapt()
    except Unfit:
        raise
    except Exception as error:  # whatever vLLM's import or layout raises, the remedy is the same: start cold
        raise Unfit(f"{type(error).__name__}: {error}") from error
    if threading.active_count() > 1:
        raise Unfit(f"importing vLLM started threads: {[t.name for t in threading.enumerate()]}")
    _self_test()
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, every page of the imports
    gc.enable()


def _self_test() -> None:
    """Fork once and compute: a runtime that does not survive a fork would hang or kill every engine.

    Raises:
        Unfit: the fork did not get the right result in time.
    """
    pid = os.fork()
    if not pid:
        import torch

        right = bool((torch.ones(64, 256) @ torch.ones(256, 64) == 256).all())
        os._exit(0 if right else 1)
    deadline = time.monotonic() + _SELF_TEST_S
    while (code := reap(pid)) is None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
    if code:
        raise Unfit(f"a forked process could not compute (exit code {code})")


def _fork(start: dict[str, Any]) -> int:
    """Fork one engine; returns its process id in the parent and never in the child."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    restore_signals()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(start["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(start["env"])
    random.seed()
    tempfile.tempdir = None  # decided anew, from TMPDIR
    serve(start["args"])
    _leave()


def _leave() -> NoReturn:
    """End a forked process without taking the inherited modules down one by one, which takes a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _commands(timeout_s: float | None, buffer: bytearray) -> list[dict[str, Any]] | None:
    """Whole commands that have come in; None once the project has closed the pipe."""
    readable, _, _ = select.select([0], [], [], timeout_s)
    if not readable:
        return []
    received = os.read(0, 1 << 16)
    if not received:
        return None
    buffer += received
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return [json.loads(line) for line in lines]


def main() -> None:
    become_reaper()
    # While vLLM is being imported nobody reads the pipe; until then the kernel ends this process with its parent.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        _prepare()
    except Unfit as reason:
        report(unfit=str(reason))
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
    report(ready=True)
    engine, scratch, buffer, memory = 0, "", bytearray(), SharedMemory()
    while (commands := _commands(POLL_S if engine else None, buffer)) is not None:
        for command in commands:
            if "ask" in command:
                report(said=ask(**command["ask"]))
            elif "start" in command:
                scratch, memory = command["start"]["scratch"], SharedMemory()
                engine = _fork(command["start"])
            elif engine:
                end_tree(engine, float(command["stop"]), scratch, memory)
                engine = 0
                report(stopped=True)
            else:
                report(stopped=True)
        if engine and (code := reap(engine)) is not None:
            report(exit=code)
            end_tree(engine, 0.0, scratch, memory)
            engine = 0
        if engine:
            memory.look_now_and_then()
    if engine:
        end_tree(engine, 0.0, scratch, memory)


if __name__ == "__main__":
    main()
