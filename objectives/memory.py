"""Memory that a configuration needs, which is not what vLLM reserves."""

from __future__ import annotations

import math

from objectives.base import Direction, Estimate, Measurement, MemoryParts, Objective


class _Bytes(Objective):
    unit = "bytes"
    direction = Direction.MINIMIZE


class MemoryNeeded(_Bytes):
    """Weights + peak KV cache in use + peak activations, on a GPU + CUDA graphs and context, each as measured.

    vLLM reserves its KV pool up front, so its memory in use says nothing about the configuration; the blocks held by
    running requests do. Weights are counted as the kernels hold them. Parts that are unknown are left out (see
    `MemoryParts`). The interval is that of the KV cache in use. The classes below give the parts.
    """

    def estimate(self, measurement: Measurement) -> Estimate | None:
        parts, kv = measurement.memory, kv_in_use(measurement)
        if parts is None or kv is None:
            return None
        others = (parts.activations_bytes, parts.graphs_bytes, parts.context_bytes)
        fixed = parts.weights_bytes + sum(part or 0 for part in others)
        return Estimate(fixed + kv.value, fixed + kv.low, fixed + kv.high, kv.n, self.unit)


class KvMemory(_Bytes):
    """KV cache held by running requests at the peak."""

    def estimate(self, measurement: Measurement) -> Estimate | None:
        return kv_in_use(measurement)


def kv_in_use(measurement: Measurement) -> Estimate | None:
    """Bytes of the KV cache held by running requests at the peak of the window.

    For greedy requests this is a reading of vLLM's own gauge. The gauge misses beam search, each step of which runs as
    one-token requests that have left the cache by the time it is set; so for beam search, and for a window in which the
    gauge was never read, the blocks are counted from the requests in flight. The interval runs from the second-highest
    to the highest reading, for a peak has no sampling distribution.
    """
    parts, use = measurement.memory, sorted(measurement.samples("kv_cache_use"))
    if parts is None:
        return None
    if measurement.beam_size > 1 or not use:
        peak = float(most_blocks_in_flight(measurement, parts) * parts.kv_block_bytes)
        return Estimate(peak, peak, peak, len(measurement.records), _Bytes.unit)
    highest, next_highest = use[-1], use[-2] if len(use) > 1 else use[-1]
    low, value = (share * parts.kv_pool_bytes for share in (next_highest, highest))
    return Estimate(value, low, value, len(use), _Bytes.unit)


def most_blocks_in_flight(measurement: Measurement, parts: MemoryParts) -> int:
    """Most KV blocks that the window's requests held at once.

    Each request holds `beam_size` sequences of its full length in whole blocks from sending to answer; at most
    `max_sequences` sequences run at once, and waiting ones hold nothing. This is an upper bound: beams share the full
    blocks of their prompt, and reach their full length only at the end.
    """
    events: list[tuple[float, int, int]] = []
    for record in measurement.records:
        tokens = (record.prompt_tokens or 0) + (record.output_tokens or 0)
        blocks = -(-tokens // parts.kv_block_tokens)
        if tokens and record.done_s >= measurement.window_start_s and record.sent_s < measurement.window_end_s:
            events += [(record.sent_s, 1, blocks), (record.done_s, -1, -blocks)]
    most = running = held = 0
    for _, requests, blocks in sorted(events):
        running, held = running + requests, held + blocks
        sequences = running * measurement.beam_size
        share = min(1.0, parts.max_sequences / sequences) if sequences else 1.0
        most = max(most, math.ceil(held * measurement.beam_size * share))
    return most


class _Part(_Bytes):
    """One part of the engine's memory; None where the engine does not report it."""

    def part(self, parts: MemoryParts) -> int | None:
        raise NotImplementedError

    def estimate(self, measurement: Measurement) -> Estimate | None:
        size = None if measurement.memory is None else self.part(measurement.memory)
        return None if size is None else self.point(size, 1)


class WeightMemory(_Part):
    """Bytes of the weights as the kernels hold them."""

    def part(self, parts: MemoryParts) -> int | None:
        return parts.weights_bytes


class ActivationMemory(_Part):
    """Peak working memory of the forward passes, from the start of the load to the end of the window."""

    def part(self, parts: MemoryParts) -> int | None:
        return parts.activations_bytes


class GraphMemory(_Part):
    """Pools of captured CUDA graphs."""

    def part(self, parts: MemoryParts) -> int | None:
        return parts.graphs_bytes


class ContextMemory(_Part):
    """What the engine holds of a GPU beside torch's allocations: context, kernels, workspaces, communication."""

    def part(self, parts: MemoryParts) -> int | None:
        return parts.context_bytes


class ReservedMemory(_Part):
    """Memory reserved by the engine, needed or not: weights, the whole KV pool, CUDA graphs and context."""

    def part(self, parts: MemoryParts) -> int | None:
        others = (parts.graphs_bytes, parts.context_bytes)
        return parts.weights_bytes + parts.kv_pool_bytes + sum(part or 0 for part in others)


class ProcessTreeMemory(_Part):
    """Proportional set size of all engine processes at the end of the window, libraries included."""

    def part(self, parts: MemoryParts) -> int | None:
        return parts.process_tree_bytes


class DeviceMemory(_Part):
    """Accelerator memory in use by all programs at the end of the window."""

    def part(self, parts: MemoryParts) -> int | None:
        return parts.device_bytes
