"""Memory is what the configuration needs, not what the engine reserved."""

from dataclasses import replace

import pytest

from objectives import Estimate, Measurement, MemoryParts, RequestRecord
from objectives.memory import (
    ActivationMemory,
    ContextMemory,
    DeviceMemory,
    GraphMemory,
    KvMemory,
    MemoryNeeded,
    ProcessTreeMemory,
    ReservedMemory,
    WeightMemory,
)

PARTS = MemoryParts(
    weights_bytes=1000, kv_pool_bytes=10_000, kv_block_tokens=16, kv_block_bytes=100, max_sequences=8,
    activations_bytes=None, process_tree_bytes=99_000,
)  # fmt: skip
USE = [(9.0, 0.9), (11.0, 0.25), (12.0, 0.5), (13.0, 0.125), (21.0, 0.8)]


def _measured(parts: MemoryParts | None, use: list[tuple[float, float]]) -> Measurement:
    return Measurement([], 10.0, 20.0, {}, {"kv_cache_use": use}, parts)


def test_weights_and_peak_use_of_the_pool_within_the_window() -> None:
    estimate = MemoryNeeded().estimate(_measured(PARTS, USE))
    assert estimate == Estimate(6000.0, 3500.0, 6000.0, 3, "bytes")


def test_activations_count_where_the_device_reports_them() -> None:
    estimate = MemoryNeeded().estimate(_measured(replace(PARTS, activations_bytes=400), USE))
    assert estimate is not None
    assert (estimate.value, estimate.low) == (6400.0, 3900.0)


def test_graphs_and_context_of_a_gpu_count_where_they_are_known() -> None:
    parts = replace(PARTS, graphs_bytes=300, context_bytes=50)
    estimate = MemoryNeeded().estimate(_measured(parts, USE))
    assert estimate is not None and (estimate.value, estimate.low) == (6350.0, 3850.0)
    reserved = ReservedMemory().estimate(_measured(parts, USE))
    assert reserved is not None and reserved.value == 11_350
    figures = [objective.estimate(_measured(parts, USE)) for objective in (GraphMemory(), ContextMemory())]
    assert [figure.value for figure in figures if figure is not None] == [300, 50]
    assert GraphMemory().estimate(_measured(PARTS, USE)) is None


def test_a_larger_reserved_pool_alone_needs_no_more() -> None:
    small = MemoryNeeded().estimate(_measured(PARTS, [(11.0, 0.5)]))
    large = MemoryNeeded().estimate(_measured(replace(PARTS, kv_pool_bytes=100_000), [(11.0, 0.05)]))
    assert small is not None and large is not None
    assert small.value == pytest.approx(large.value)


def test_one_reading_is_a_point() -> None:
    assert MemoryNeeded().estimate(_measured(PARTS, [(11.0, 0.5)])) == Estimate(6000.0, 6000.0, 6000.0, 1, "bytes")


def test_a_machine_that_cannot_be_seen_has_no_memory_figure() -> None:
    for objective in (
        MemoryNeeded(), WeightMemory(), KvMemory(), ActivationMemory(), ReservedMemory(), ProcessTreeMemory(),
        DeviceMemory(), GraphMemory(), ContextMemory(),
    ):  # fmt: skip
        assert objective.estimate(_measured(None, USE)) is None


def test_parts_are_reported_apart() -> None:
    measured = _measured(PARTS, USE)
    assert WeightMemory().estimate(measured) == Estimate(1000, 1000, 1000, 1, "bytes")
    assert KvMemory().estimate(measured) == Estimate(5000.0, 2500.0, 5000.0, 3, "bytes")
    assert ReservedMemory().estimate(measured) == Estimate(11_000, 11_000, 11_000, 1, "bytes")
    assert ProcessTreeMemory().estimate(measured) == Estimate(99_000, 99_000, 99_000, 1, "bytes")


def test_parts_that_the_engine_does_not_report_have_no_figure() -> None:
    assert ActivationMemory().estimate(_measured(PARTS, USE)) is None
    assert DeviceMemory().estimate(_measured(PARTS, USE)) is None
    reported = replace(PARTS, activations_bytes=400, device_bytes=7)
    assert ActivationMemory().estimate(_measured(reported, USE)) == Estimate(400, 400, 400, 1, "bytes")
    assert DeviceMemory().estimate(_measured(reported, USE)) == Estimate(7, 7, 7, 1, "bytes")


def test_what_is_needed_is_the_sum_of_its_parts() -> None:
    measured = _measured(replace(PARTS, activations_bytes=400), USE)
    parts = [o.estimate(measured) for o in (WeightMemory(), KvMemory(), ActivationMemory())]
    whole = MemoryNeeded().estimate(measured)
    assert whole is not None and whole.value == sum(p.value for p in parts if p is not None)


def _request(sent_s: float, done_s: float, prompt_tokens: int, output_tokens: int) -> RequestRecord:
    return RequestRecord(0, sent_s, sent_s, None, done_s, prompt_tokens, output_tokens, "")


def test_beam_search_holds_whole_blocks_for_every_beam_of_the_requests_in_flight() -> None:
    # 10 + 8 tokens take two blocks of 16, 10 + 4 one; the first two overlap, the third comes when both are answered.
    requests = [_request(10, 12, 10, 8), _request(11, 13, 10, 4), _request(14, 15, 10, 8)]
    measured = Measurement(requests, 10.0, 20.0, {}, {"kv_cache_use": USE}, PARTS, beam_size=2)
    estimate = MemoryNeeded().estimate(measured)
    assert estimate is not None and estimate.value == 1000 + (2 + 1) * 2 * 100


def test_sequences_beyond_what_runs_at_once_hold_nothing() -> None:
    requests = [_request(10, 12, 10, 4) for _ in range(12)]  # 24 sequences of one block, 8 at once
    measured = Measurement(requests, 10.0, 20.0, {}, {"kv_cache_use": USE}, PARTS, beam_size=2)
    estimate = MemoryNeeded().estimate(measured)
    assert estimate is not None and estimate.value == 1000 + 8 * 100


def test_requests_outside_the_window_and_unanswered_ones_hold_nothing_in_it() -> None:
    requests = [_request(1, 9, 10, 8), _request(21, 22, 10, 8), _request(11, 12, 0, 0), _request(11, 12, 10, 4)]
    measured = Measurement(requests, 10.0, 20.0, {}, {"kv_cache_use": USE}, PARTS, beam_size=2)
    estimate = MemoryNeeded().estimate(measured)
    assert estimate is not None and estimate.value == 1000 + 2 * 100


def test_requests_in_flight_stand_in_for_a_gauge_that_was_never_read_within_the_window() -> None:
    requests = [_request(11.0, 13.0, 10, 8), _request(12.0, 14.0, 10, 4)]
    estimate = MemoryNeeded().estimate(Measurement(requests, 10.0, 20.0, {}, {"kv_cache_use": USE[:1]}, PARTS))
    assert estimate is not None and estimate.value == 1000 + 3 * 100
