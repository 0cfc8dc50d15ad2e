"""Runs inside vLLM's worker (`--worker-extension-cls`): tells what the worker holds and runs with.

vLLM mixes the class into its worker, so `self` is the worker. Reached through /collective_rpc, whose results must be
JSON. Must import nothing of the project: the worker process pays for it.
"""

from __future__ import annotations

from typing import Any

_SECTIONS = ("scheduler_config", "cache_config", "parallel_config", "model_config", "compilation_config")
_ALIASES = {"api_server_count": ("_api_process_count",)}


class WorkerExtension:
    """Methods that vLLM's worker gains."""

    def memory_report(self) -> dict[str, Any]:
        """Bytes of the KV pool and, on CUDA, of weights and peak activations."""
        import torch

        tensors: dict[int, int] = {}
        _collect(self.model_runner.kv_caches, tensors)  # type: ignore[attr-defined]
        config = self.vllm_config  # type: ignore[attr-defined]
        pool = sum(tensors.values())
        report: dict[str, Any] = {
            "kv_pool_bytes": pool,
            "kv_block_tokens": config.cache_config.block_size,
            "kv_block_bytes": pool // max(1, config.cache_config.num_gpu_blocks or 1),
            "max_sequences": config.scheduler_config.max_num_seqs,
            "activations_bytes": None,
        }
        if torch.cuda.is_available():
            at_rest = torch.cuda.memory_allocated()
            report["activations_bytes"] = max(0, torch.cuda.max_memory_allocated() - at_rest)
        return report

    def reset_memory_peak(self) -> None:
        """Start the peak of activations afresh."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

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
