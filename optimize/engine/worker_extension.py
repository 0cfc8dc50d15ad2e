"""Runs inside vLLM's worker (`--worker-extension-cls`): tells what the worker holds and runs with.

vLLM mixes the class into its worker, so `self` is the worker. Reached through /collective_rpc, whose results must be
JSON. Must import nothing heavy: the worker process pays for it.

On CPU nobody counts the working memory of a forward pass. Two books tell of memory that came and went, neither of too
much. The kernel's: at a reset the process's high-water mark is set to what it holds, and at a report the mark lies
above what is held then by the large pieces, which go back to the kernel when they are freed. The C library's, of small
pieces too, but only as often as it is looked at (`optimize.engine.heap`). On CUDA, torch's own counters tell the same.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

from optimize.engine.heap import HeapWatch, heap_in_use

_SECTIONS = ("scheduler_config", "cache_config", "parallel_config", "model_config", "compilation_config")
_ALIASES = {"api_server_count": ("_api_process_count",)}
_PAGE = 4096
_DEPTH = 6
_RESET_PEAK = "5"
"""What /proc/self/clear_refs takes for: the high-water mark is what the process holds now."""


class WorkerExtension:
    """Methods that vLLM's worker gains."""

    def memory_report(self) -> dict[str, Any]:
        """Bytes of weights, KV pool and peak activations, and what of the device is in use."""
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
        }

    def reset_memory_peak(self) -> None:
        """Start the peak of activations afresh."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        if watch := getattr(self, "_heap_watch", None):
            watch.end()
        _give_back()
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as switch:
                switch.write(_RESET_PEAK)
        except OSError:  # not allowed here: activations stay unknown
            return
        self._peak_is_reset = True
        in_use = heap_in_use()
        self._heap_watch = HeapWatch(in_use) if in_use is not None else None

    def _kv_storages(self) -> dict[int, int]:
        found: dict[int, int] = {}
        _collect(self.model_runner.kv_caches, found)  # type: ignore[attr-defined]
        return found

    def _cpu_peak(self) -> int | None:
        """Peak of the working memory since the last reset; None without one, or where the kernel does not let us."""
        if not getattr(self, "_peak_is_reset", False):
            return None
        watch = self._heap_watch
        if watch is None:  # whatever has left holes in the heap is then counted with them, or it would not be at all
            _give_back()
        now = _status()
        return max(0, now["VmHWM"] - now["VmRSS"], watch.came_and_went_bytes if watch else 0)

    def effective_values(self, *names: str) -> dict[str, Any]:
        """The values of flags as resolved by vLLM, for those found in its configuration."""
        found: dict[str, Any] = {}
        for name in names:
            for section in _SECTIONS:
                holder = getattr(self.vllm_config, section, None)  # type: ignore[attr-defined]
                for attribute in (name, *_ALIASES.get(name, ())):
                    value = getattr(holder, attribute, None)
                    if isinstance(value, bool | int | float | str) and name not in found:
                        found[name] = value
        return found


def _cuda_peak() -> int:
    import torch

    return max(0, torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated())


def _cuda_in_use() -> int:
    """Of the whole device, other processes included."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def _give_back() -> None:
    """Have the C library return freed memory, which it otherwise keeps for the next allocation, to the kernel."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status() -> dict[str, int]:
    """This process's memory as the kernel counts it, in bytes."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return {name: int(text.split()[0]) * 1024 for name, text in fields.items() if text.strip().endswith("kB")}


def _resident(storages: dict[int, int]) -> int:
    """Bytes of these storages that have memory behind them: what was never touched has none."""
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

    Kernels repack: oneDNN moves a matrix into a buffer of its own, of which only a handler with the matrix's sizes is
    seen here, and others into tensors that the module's functions hold on to.
    """
    item = int(dtype.itemsize)
    storages: dict[int, int] = {}
    packed: dict[int, int] = {}
    for module in model.modules():
        before = len(storages) + len(packed)
        parts = {k: v for k, v in vars(module).items() if k not in ("_modules", "kv_cache")}
        _reach(parts, 1, item, storages, packed, {}, _DEPTH)
        emptied = "weight" in vars(module).get("_parameters", {}) and not _has_elements(module.weight)
        if emptied and before == len(storages) + len(packed):
            return None
    return sum(size for key, size in storages.items() if key not in kv_storages) + sum(packed.values())


def _has_elements(tensor: Any) -> bool:
    return tensor is not None and tensor.numel() > 0


def _reach(
    node: Any,
    packed_item: int,
    item: int,
    storages: dict[int, int],
    packed: dict[int, int],
    seen: dict[int, Any],
    depth: int,
) -> None:
    """Add the tensors and packed matrices that can be reached from a module's own attributes.

    Args:
        node: Where to look.
        packed_item: Bytes per element of a packed matrix found from here: quantization schemes pack 8-bit integers.
        item: The same within a function that a layer calls: those hold the model's own type.
        storages: Address -> bytes of tensors, added to.
        packed: Identity of a handler -> bytes, added to.
        seen: Objects already looked at, by identity; held, so that no other object gets an identity a second time.
        depth: How many steps to go at most.
    """
    if id(node) in seen or depth < 0:
        return
    seen[id(node)] = node
    if hasattr(node, "untyped_storage"):
        if node.device.type != "meta" and node.numel():
            storage = node.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    elif hasattr(node, "handler_tensor"):
        packed[id(node)] = int(node.n) * int(node.k) * packed_item
    elif isinstance(node, dict | list | tuple):
        for value in node.values() if isinstance(node, dict) else node:
            _reach(value, packed_item, item, storages, packed, seen, depth - 1)
    elif getattr(node, "__closure__", None):
        for cell in node.__closure__:
            with contextlib.suppress(ValueError):  # a cell that was never filled
                _reach(cell.cell_contents, item, item, storages, packed, seen, depth - 1)
    elif type(node).__module__.startswith("vllm.model_executor") and not hasattr(node, "named_modules"):
        _reach(getattr(node, "__dict__", {}), packed_item, item, storages, packed, seen, depth - 1)


def _collect(node: Any, tensors: dict[int, int]) -> None:
    """Bytes of all distinct tensor storages within nested lists, tuples and dicts."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            _collect(item, tensors)
    elif hasattr(node, "untyped_storage"):
        storage = node.untyped_storage()
        tensors[storage.data_ptr()] = storage.nbytes()
