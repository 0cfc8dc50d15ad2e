"""What memory a configuration needs, which is not what vLLM reserves."""

from __future__ import annotations

import math

from objectives.base import Direction, Estimate, Measurement, MemoryParts, Objective


class _Bytes(Objective):
    unit = "bytes"
    direction = Direction.MINIMIZE


class MemoryNeeded(_Bytes):
    """Weights + peak KV cache in use + peak activations.

    vLLM reserves its KV pool up front, so memory in use says nothing about the configuration; the blocks that
    running requests really held do. Activations are included where the device can tell them apart (CUDA).
    The interval runs from the second-highest to the highest KV reading: a peak has no sampling distribution to lean on.

    Greedy requests are read off vLLM's own gauge. Beam search is not in it: each step runs as one-token requests that
    have left the cache again when the gauge is set, so its blocks are counted from the requests in flight; as are those
    of a window in which the gauge was never read.
    """

    def estimate(self, measurement: Measurement) -> Estimate | None:
        parts, use = measurement.memory, sorted(measurement.samples("kv_cache_use"))
        if parts is None:
            return None
        fixed = parts.weights_bytes + (parts.activations_bytes or 0)
        if measurement.beam_size > 1 or not use:
            peak = most_blocks_in_flight(measurement, parts) * parts.kv_block_bytes
            return self.point(fixed + peak, len(measurement.records))
        highest, next_highest = use[-1], use[-2] if len(use) > 1 else use[-1]
        low, value = (fixed + share * parts.kv_pool_bytes for share in (next_highest, highest))
        return Estimate(value, low, value, len(use), self.unit)


def most_blocks_in_flight(measurement: Measurement, parts: MemoryParts) -> int:
    """KV blocks that the window's requests held together at the worst moment.

    Each request holds `beam_size` sequences of its full length in whole blocks from sending to answer; no more than
    `max_sequences` sequences run at once, and those that wait hold nothing. An upper bound: beams share their prompt
    where it fills whole blocks, and grow to their full length only at the end.
    """
    events: list[tuple[float, int, int]] = []
    for record in measurement.records:
        tokens = record.prompt_tokens + record.output_tokens
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


class WeightMemory(_Bytes):
    """Bytes of the checkpoint's tensors."""

    def estimate(self, measurement: Measurement) -> Estimate | None:
        return None if measurement.memory is None else self.point(measurement.memory.weights_bytes, 1)


class ProcessTreeMemory(_Bytes):
    """Proportional set size of all engine processes at the end of the window, libraries included."""

    def estimate(self, measurement: Measurement) -> Estimate | None:
        return None if measurement.memory is None else self.point(measurement.memory.process_tree_bytes, 1)
