"""The parts of an engine's memory from its workers' reports, with CUDA as a test makes it up."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from optimize.engine import worker_extension
from optimize.engine.vllm_engine import memory_parts

REPORT = {
    "weights_bytes": 1000, "kv_pool_bytes": 500, "kv_block_tokens": 16, "kv_block_bytes": 10, "max_sequences": 64,
    "activations_bytes": 30, "kv_resident_bytes": 500, "device_bytes": 2000, "graphs_bytes": 200, "context_bytes": None,
    "copies": 1,
}  # fmt: skip


def test_workers_of_one_engine_add_up() -> None:
    parts = memory_parts([REPORT, {**REPORT, "weights_bytes": 1100}], 900, 7000)
    assert (parts.weights_bytes, parts.kv_pool_bytes, parts.kv_block_bytes, parts.graphs_bytes) == (2100, 1000, 20, 400)
    assert (parts.max_sequences, parts.context_bytes, parts.process_tree_bytes) == (64, None, 7000)


def test_all_copies_of_data_parallelism_count_though_the_first_alone_reports() -> None:
    parts = memory_parts([{**REPORT, "copies": 4}], 900, 7000)
    assert (parts.weights_bytes, parts.kv_pool_bytes, parts.activations_bytes, parts.graphs_bytes) == (
        4000,
        2000,
        120,
        800,
    )
    assert (parts.max_sequences, parts.kv_block_bytes, parts.checkpoint_bytes) == (256, 10, 900)
    hidden = memory_parts([{**REPORT, "copies": 2, "weights_bytes": None}], 900, 7000)
    assert hidden.weights_bytes == 1800


def test_pools_of_graphs_are_told_from_all_else_that_torch_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = [(100, (0, 0)), (40, (0, 1)), (2, (1, 0))]
    snapshot = [{"total_size": size, "segment_pool_id": pool} for size, pool in segments]
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: snapshot)
    assert worker_extension._cuda_graphs() == 42


@pytest.mark.parametrize(("own", "context"), [(True, 300), (False, None)])
def test_the_context_is_what_the_driver_counts_beside_torchs_memory(
    own: bool, context: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.getpid() if own else 1
    uuids: list[bytes] = []

    def handle_of(uuid: bytes) -> None:
        uuids.append(uuid)

    nvml: Any = SimpleNamespace(
        NVMLError=RuntimeError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=handle_of,
        nvmlDeviceGetComputeRunningProcesses=lambda _: [SimpleNamespace(pid=pid, usedGpuMemory=1300)],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="12-34"))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1000)
    assert worker_extension._cuda_context() == context
    assert uuids == [b"GPU-12-34"]
