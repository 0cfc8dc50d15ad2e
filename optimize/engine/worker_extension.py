"""Worker extension for vLLM (`--worker-extension-cls`): reports what the worker holds and which values it runs with.

vLLM mixes the class into its worker, so `self` is the worker. It is called through /collective_rpc, whose results must
be JSON. It must import nothing heavy, because the worker process pays for it.

On CPU nothing counts the working memory of a forward pass. Two sources show memory that came and went, and neither
overstates it. The kernel: a reset sets the process's high-water mark to what it holds, and at a report the mark lies
above the present size by the large pieces, which return to the kernel when they are freed. The C library: small pieces
too, but only as often as it is sampled (`optimize.engine.heap`). On CUDA, torch's own counters report the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
from enum import Enum
from typing import Any

from optimize.engine.heap import HeapWatch, heap_in_use

_SECTIONS = ("scheduler_config", "cache_config", "parallel_config", "model_config", "compilation_config")
_ALIASES = {
    "api_server_count": ("_api_process_count",), "kv_cache_dtype": ("cache_dtype",), "scheduling_policy": ("policy",),
}  # fmt: skip
"""Flag -> vLLM's names for it where its configuration has others."""
_BACKEND = "attention_backend"
_PAGE = 4096
_DEPTH = 6
_COMMON_POOL = (0, 0)
"""Identity of torch's pool for all that is not captured in a graph."""
_RESET_PEAK = "5"
"""Written to /proc/self/clear_refs, it sets the high-water mark to what the process holds now."""


class WorkerExtension:
    """Methods added to vLLM's worker."""

    def memory_report(self) -> dict[str, Any]:
        """Bytes of weights, KV pool, peak activations, CUDA graphs and context, bytes of the device in use, and the
        number of engines like this one, whose workers are not asked.
        """
        import torch

        pool_parts = self._kv_storages()
        config, model = self.vllm_config, self.model_runner.model  # type: ignore[attr-defined]
        pool = sum(pool_parts.values())
        on_cuda = torch.cuda.is_available()
        return {
            "weights_bytes": _weights(model, config.model_config.dtype, pool_parts),
            "kv_pool_bytes": pool,
            "kv_block_tokens": config.cache_config.block_size,
            "kv_block_bytes": pool // max(1, config.cache_config.num_gpu_blocks or 1),
            "kv_resident_bytes": pool if on_cuda else _resident(pool_parts),
            "max_sequences": config.scheduler_config.max_num_seqs,
            "activations_bytes": _cuda_peak() if on_cuda else self._cpu_peak(),
            "device_bytes": _cuda_in_use() if on_cuda else None,
            "graphs_bytes": _cuda_graphs() if on_cuda else None,
            "context_bytes": _cuda_context() if on_cuda else None,
            "copies": getattr(config.parallel_config, "data_parallel_size", 1),
        }

    def reset_memory_peak(self) -> None:
        """Start a new measurement of peak activations."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        if watch := getattr(self, "_heap_watch", None):
            watch.end()
        _trim_heap()
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as switch:
                switch.write(_RESET_PEAK)
        except OSError:  # not permitted: activations stay unknown
            return
        self._peak_is_reset = True
        in_use = heap_in_use()
        self._heap_watch = HeapWatch(in_use) if in_use is not None else None

    def _kv_storages(self) -> dict[int, int]:
        storages: dict[int, int] = {}
        _collect(self.model_runner.kv_caches, storages)  # type: ignore[attr-defined]
        return storages

    def _cpu_peak(self) -> int | None:
        """Peak of the working memory since the last reset; None without one, or where the kernel does not permit it."""
        if not getattr(self, "_peak_is_reset", False):
            return None
        watch = self._heap_watch
        if watch is None:  # without counts of the heap, trimming shows small pieces, at the price of counting holes too
            _trim_heap()
        status = _status()
        return max(0, status["VmHWM"] - status["VmRSS"], watch.transient_bytes if watch else 0)

    def effective_values(self, *names: str) -> dict[str, Any]:
        """Values of flags as vLLM resolved them, for those flags that its configuration has; see `_effective`."""
        config = self.vllm_config  # type: ignore[attr-defined]
        values = {name: _effective(config, name) for name in names}
        if values.get(_BACKEND, "") is None:  # the configuration names one only where the user did
            values[_BACKEND] = _backend_of_layers(config)
        return {name: value for name, value in values.items() if value is not None}


def _effective(config: Any, name: str) -> Any:
    """A flag's value in vLLM's configuration, as JSON has it.

    Returns:
        A text, a number, a list of them, or for a flag that is a part of its own (`compilation_config`) a mapping of
        those that it holds; None where the configuration does not have the flag, or no value of it.
    """
    parts = [getattr(config, part, None) for part in _SECTIONS]
    others = [part for part in vars(config).values() if hasattr(part, "__dict__")]
    holders = [config, *parts, *others]
    values = (getattr(holder, alias, None) for holder in holders for alias in (name, *_ALIASES.get(name, ())))
    return next((plain for value in values if (plain := _plain(value)) is not None), None)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        items = [_scalar(item) for item in value]
        return None if None in items else items
    if type(value).__name__.endswith("Config"):
        return {name: plain for name, field in vars(value).items() if (plain := _scalar(field)) is not None}
    return _scalar(value)


def _scalar(value: Any) -> Any:
    """A value as JSON has it, members of enumerations by the words of the command line; None for all others."""
    if type(value).__name__ == "dtype":  # torch's
        return str(value).removeprefix("torch.")
    if isinstance(value, Enum):
        return value.value if isinstance(value, int | str) else value.name
    return value if isinstance(value, bool | int | float | str) else None


def _backend_of_layers(config: Any) -> str | None:
    """The backend of the first attention layer."""
    layers = getattr(getattr(config, "compilation_config", None), "static_forward_context", {})
    backends = (getattr(layer, "attn_backend", None) for layer in layers.values())
    return next((str(backend.get_name()) for backend in backends if backend is not None), None)


def _cuda_peak() -> int:
    import torch

    return max(0, torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated())


def _cuda_graphs() -> int:
    """Bytes of the pools that captured graphs keep for themselves, whether a graph runs or not."""
    import torch

    segments = torch.cuda.memory_snapshot()
    return sum(int(segment["total_size"]) for segment in segments if tuple(segment["segment_pool_id"]) != _COMMON_POOL)


def _cuda_context() -> int | None:
    """Bytes that this process holds on the device beside torch's allocations: context, kernels, workspaces, NCCL.

    None where the driver does not tell this process from others, as in a container with process numbers of its own.
    """
    import torch

    nvml: Any = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        device = torch.cuda.get_device_properties(torch.cuda.current_device())
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{device.uuid}".encode())
        running = {p.pid: p.usedGpuMemory for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    except (nvml.NVMLError, AttributeError):
        return None
    held = running.get(os.getpid())
    return None if held is None else max(0, int(held) - torch.cuda.memory_reserved())


def _cuda_in_use() -> int:
    """Bytes in use on the whole device, including other processes."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def _trim_heap() -> None:
    """Have the C library return freed memory to the kernel, which it otherwise keeps for the next allocation."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status() -> dict[str, int]:
    """This process's memory as the kernel counts it, in bytes."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return {name: int(text.split()[0]) * 1024 for name, text in fields.items() if text.strip().endswith("kB")}


def _resident(storages: dict[int, int]) -> int:
    """Bytes of these storages that are backed by memory; pages that were never touched are not."""
    library, total = ctypes.CDLL(None, use_errno=True), 0
    for address, size in storages.items():
        begin = address - address % _PAGE
        pages = -(-(address + size - begin) // _PAGE)
        present = (ctypes.c_ubyte * max(1, pages))()
        if size and library.mincore(ctypes.c_void_p(begin), ctypes.c_size_t(pages * _PAGE), present) == 0:
            total += min(size, sum(bytes(present).translate(_LOWEST_BIT)) * _PAGE)
    return total


_LOWEST_BIT = bytes(value & 1 for value in range(256))


def _weights(model: Any, dtype: Any, kv_storages: dict[int, int]) -> int | None:
    """Bytes of a model's weights as its kernels hold them; None where a kernel keeps them out of sight.

    Kernels repack. oneDNN moves a matrix into a buffer of its own, of which only a handler with the matrix's sizes is
    visible here; others move it into tensors that the module's functions hold.
    """
    walk = _WeightWalk(int(dtype.itemsize))
    for module in model.modules():
        parts = {k: v for k, v in vars(module).items() if k not in ("_modules", "kv_cache")}
        grown = walk.visit_module(parts)
        emptied = "weight" in vars(module).get("_parameters", {}) and not _has_elements(module.weight)
        if emptied and not grown:
            return None
    return sum(size for key, size in walk.storages.items() if key not in kv_storages) + sum(walk.packed.values())


def _has_elements(tensor: Any) -> bool:
    return tensor is not None and tensor.numel() > 0


class _WeightWalk:
    """Collects the tensors and packed matrices that can be reached from the modules' own attributes.

    Args:
        item: Bytes per element of the model's type.

    Attributes:
        storages: Address -> bytes of tensors.
        packed: Identity of a handler -> bytes of its matrix.
    """

    def __init__(self, item: int) -> None:
        self._item = item
        self.storages: dict[int, int] = {}
        self.packed: dict[int, int] = {}
        self._visited: dict[int, Any] = {}  # holds the objects, so that no other object can take over an identity

    def visit_module(self, parts: dict[str, Any]) -> bool:
        """Walk one module's attributes; whether that found anything new."""
        before = len(self.storages) + len(self.packed)
        self._visited = {}
        self._visit(parts, 1, _DEPTH)
        return len(self.storages) + len(self.packed) > before

    def _visit(self, node: Any, packed_item: int, depth: int) -> None:
        """Visit an object and what it holds, up to `depth` steps away.

        Args:
            node: The object.
            packed_item: Bytes per element of a packed matrix. Quantization schemes pack 8-bit integers; functions that
                a layer calls hold the model's own type.
            depth: Number of further steps.
        """
        if id(node) in self._visited or depth < 0:
            return
        self._visited[id(node)] = node
        if hasattr(node, "untyped_storage"):
            if node.device.type != "meta" and node.numel():
                storage = node.untyped_storage()
                self.storages[storage.data_ptr()] = storage.nbytes()
        elif hasattr(node, "handler_tensor"):
            self.packed[id(node)] = int(node.n) * int(node.k) * packed_item
        elif isinstance(node, dict | list | tuple):
            for value in node.values() if isinstance(node, dict) else node:
                self._visit(value, packed_item, depth - 1)
        elif getattr(node, "__closure__", None):
            for cell in node.__closure__:
                with contextlib.suppress(ValueError):  # a cell that was never filled
                    self._visit(cell.cell_contents, self._item, depth - 1)
        elif type(node).__module__.startswith("vllm.model_executor") and not hasattr(node, "named_modules"):
            self._visit(getattr(node, "__dict__", {}), packed_item, depth - 1)


def _collect(node: Any, tensors: dict[int, int]) -> None:
    """Add the bytes of all distinct tensor storages within nested lists, tuples and dicts, by address."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            _collect(item, tensors)
    elif hasattr(node, "untyped_storage"):
        storage = node.untyped_storage()
        tensors[storage.data_ptr()] = storage.nbytes()
