"""What memory a configuration needs, which is not what vLLM reserves."""

from __future__ import annotations

from objectives.base import Direction, Estimate, Measurement, Objective


class _Bytes(Objective):
    unit = "bytes"
    direction = Direction.MINIMIZE


class MemoryNeeded(_Bytes):
    """Weights + peak KV cache in use + peak activations.

    vLLM reserves its KV pool up front, so memory in use says nothing about the configuration; the blocks that
    running requests really held do. Activations are included where the device can tell them apart (CUDA).
    The interval runs from the second-highest to the highest KV reading: a peak has no sampling distribution to lean on.
    """

    def estimate(self, measurement: Measurement) -> Estimate | None:
        parts, use = measurement.memory, sorted(measurement.samples("kv_cache_use"))
        if parts is None or not use:
            return None
        fixed = parts.weights_bytes + (parts.activations_bytes or 0)
        peak, next_peak = use[-1], use[-2] if len(use) > 1 else use[-1]
        value = fixed + peak * parts.kv_pool_bytes
        return Estimate(value, fixed + next_peak * parts.kv_pool_bytes, value, len(use), self.unit)


class WeightMemory(_Bytes):
    """Bytes of the checkpoint's tensors."""

    def estimate(self, measurement: Measurement) -> Estimate | None:
        return None if measurement.memory is None else self.point(measurement.memory.weights_bytes, 1)


class ProcessTreeMemory(_Bytes):
    """Proportional set size of all engine processes at the end of the window, libraries included."""

    def estimate(self, measurement: Measurement) -> Estimate | None:
        return None if measurement.memory is None else self.point(measurement.memory.process_tree_bytes, 1)
