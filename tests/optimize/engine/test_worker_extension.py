"""The worker extension's memory report, on a stub of vLLM's worker with real tensors and real pages."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from optimize.engine.worker_extension import WorkerExtension, _resident, _weights

MIB = 1 << 20


class Handler:
    """vLLM's handler of a matrix that oneDNN has repacked: the sizes are visible, the memory is not."""

    def __init__(self, n: int, k: int) -> None:
        self.n, self.k, self.handler_tensor = n, k, torch.zeros(1, dtype=torch.int64)


class Scheme:
    """A quantization scheme of vLLM, which holds its kernel."""

    __module__ = "vllm.model_executor.layers.quantization"

    def __init__(self, kernel: object) -> None:
        self.kernel = kernel


def linear(emptied: bool) -> torch.nn.Module:
    """A layer of 16 weights of 2 bytes; `emptied` as after repacking."""
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.empty(0 if emptied else (4, 4), dtype=torch.float16), requires_grad=False)
    return layer


def test_the_data_type_is_reported_by_its_name() -> None:
    worker: Any = WorkerExtension()
    worker.vllm_config = SimpleNamespace(model_config=SimpleNamespace(dtype=torch.bfloat16, max_model_len=256))
    assert worker.effective_values("dtype", "max_model_len", "unheard_of") == {
        "dtype": "bfloat16",
        "max_model_len": 256,
    }


class Mode(Enum):
    """As vLLM's modes of CUDA graphs."""

    FULL_AND_PIECEWISE = (2, 1)


class Level(IntEnum):
    """As vLLM's optimization levels."""

    O2 = 2


class CompilationConfig:
    """As vLLM's, with a layer that has chosen its backend."""

    def __init__(self) -> None:
        backend = SimpleNamespace(get_name=lambda: "FLASH_ATTN")
        self.cudagraph_mode, self.cudagraph_capture_sizes = Mode.FULL_AND_PIECEWISE, [1, 2, 4]
        self.static_forward_context = {"layer 0": SimpleNamespace(), "layer 1": SimpleNamespace(attn_backend=backend)}


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("kv_cache_dtype", "auto"),
        ("attention_backend", "FLASH_ATTN"),
        ("performance_mode", "balanced"),
        ("optimization_level", 2),
        ("moe_backend", "triton"),
        ("cudagraph_capture_sizes", [1, 2, 4]),
        ("compilation_config", {"cudagraph_mode": "FULL_AND_PIECEWISE"}),
        ("speculative_config", None),
    ],
)
def test_a_flag_is_reported_wherever_vllm_keeps_it(flag: str, value: Any) -> None:
    worker: Any = WorkerExtension()
    worker.vllm_config = SimpleNamespace(
        cache_config=SimpleNamespace(cache_dtype="auto"), attention_config=SimpleNamespace(backend=None),
        compilation_config=CompilationConfig(), kernel_config=SimpleNamespace(moe_backend="triton"),
        optimization_level=Level.O2, performance_mode="balanced", speculative_config=None,
    )  # fmt: skip
    assert worker.effective_values(flag) == ({} if value is None else {flag: value})


def test_parameters_and_buffers_count_once_however_often_they_are_held() -> None:
    model = torch.nn.Module()
    model.a, model.b = linear(False), linear(False)
    model.b.weight = model.a.weight  # tied
    model.register_buffer("table", torch.zeros(8, dtype=torch.float32))
    assert _weights(model, torch.float16, {}) == 32 + 32


def test_a_matrix_that_a_function_of_the_layer_holds_counts_in_the_models_type() -> None:
    layer, handler = linear(True), Handler(4, 4)
    vars(layer)["cpu_linear"] = lambda x: handler
    assert _weights(layer, torch.float16, {}) == 32


def test_a_matrix_that_a_quantization_scheme_packed_counts_as_bytes() -> None:
    layer = linear(True)
    kernel = Scheme(None)
    kernel.dnnl_handler = Handler(4, 4)  # type: ignore[attr-defined]
    vars(layer)["scheme"] = Scheme(kernel)
    assert _weights(layer, torch.float16, {}) == 16


def test_packed_tensors_that_a_function_holds_count() -> None:
    layer, packed = linear(True), torch.zeros(64, dtype=torch.int8)
    vars(layer)["cpu_linear"] = lambda x: packed
    assert _weights(layer, torch.float16, {}) == 64


def test_weights_out_of_sight_are_unknown() -> None:
    assert _weights(linear(True), torch.float16, {}) is None


def test_the_kv_cache_is_not_a_weight() -> None:
    layer, cache = linear(False), torch.zeros(1024)
    layer.kv_cache = cache
    vars(layer)["held_elsewhere"] = [cache]
    storage = cache.untyped_storage()
    assert _weights(layer, torch.float16, {storage.data_ptr(): storage.nbytes()}) == 32


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are read off Linux")
def test_memory_that_was_never_touched_is_not_resident() -> None:
    pool = torch.empty(64 * MIB, dtype=torch.int8)
    storage = {pool.untyped_storage().data_ptr(): pool.untyped_storage().nbytes()}
    before = _resident(storage)
    pool[: 32 * MIB].zero_()
    assert 31 * MIB < _resident(storage) - before < 36 * MIB
    assert _resident(storage) <= 64 * MIB


BEGIN = """
import ctypes, time
from types import SimpleNamespace
import torch
from optimize.engine.worker_extension import WorkerExtension
worker = WorkerExtension()
pool = torch.empty(64 << 20, dtype=torch.int8)
worker.model_runner = SimpleNamespace(kv_caches=[pool])
kept = torch.ones(16 << 20, dtype=torch.int8)
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def touched(size):
    piece = library.malloc(size)
    ctypes.memset(piece, 1, size)
    return piece
def sampled():                    # the heap was counted anew, whatever the speed of this machine
    watch = worker._heap_watch
    before = watch.samples
    while watch.samples < before + 2:
        time.sleep(0.005)
worker.reset_memory_peak()
pool[: 32 << 20].zero_()          # pages of the KV cache: not working memory
"""
LARGE_PIECE = """
passing = torch.ones(48 << 20, dtype=torch.int8)
del passing
"""
SMALL_PIECES = """
pieces = [touched(16 << 10) for _ in range(3 << 10)]
sampled()
pieces.pop()                      # the last one stays: the heap below it is not given back
for piece in pieces:
    library.free(piece)
sampled()
"""
HOLES = """
for size in range(20 << 10, 100 << 10, 200):    # each a little larger than any hole that was left before
    passing = touched(size)
    touched(size + 100)           # stays
    library.free(passing)
sampled()
"""


@pytest.mark.parametrize(
    ("passing", "least_mib", "most_mib"),
    [(LARGE_PIECE, 47, 53), (SMALL_PIECES, 47, 53), (HOLES, 0, 2)],
    ids=["large piece", "small pieces", "holes"],
)
def test_the_peak_is_transient_memory_without_the_kv_cache(passing: str, least_mib: int, most_mib: int) -> None:
    """In a process of its own, whose memory nothing else changes."""
    command = [sys.executable, "-c", f"{BEGIN}{passing}\nprint(worker._cpu_peak())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert least_mib * MIB <= int(done.stdout) < most_mib * MIB


def test_without_a_reset_there_is_no_peak() -> None:
    worker = WorkerExtension()
    worker.model_runner = SimpleNamespace(kv_caches=[])  # type: ignore[attr-defined]
    assert worker._cpu_peak() is None
