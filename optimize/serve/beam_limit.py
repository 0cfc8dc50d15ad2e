"""Limit on the beams of a request, which adapts to the load of the engine. Pure.

vLLM's beam search resubmits every beam as a request of its own for each token, and its gauge of the KV cache misses
what is held between two of them. The limit therefore counts the beams of all requests in flight, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VLLM_MAX_LOGPROBS = 20
_ANY_LOGPROBS, _SEQUENCES = -1, 128


@dataclass(frozen=True, slots=True)
class Verdict:
    """Decision about a request.

    Attributes:
        width: Beams per prompt that it is admitted with; 0 for a refused request.
        beams: Beams of all its prompts together; 1 where it decodes greedily or by sampling.
        reason: Why it is refused or clamped; empty where it is neither.
    """

    width: int
    beams: int
    reason: str = ""


def accepted_beams(flags: Mapping[str, Any]) -> int:
    """The widest beam search that an engine with these flags accepts: it needs twice as many log-probabilities.

    An engine that gives any number of them accepts any number of beams; here then as many as it computes together.
    """
    max_logprobs = flags.get("max_logprobs")
    if max_logprobs is not None and int(max_logprobs) == _ANY_LOGPROBS:
        return int(flags.get("max_num_seqs") or _SEQUENCES)
    return max(1, int(VLLM_MAX_LOGPROBS if max_logprobs is None else max_logprobs) // 2)


class BeamLimit:
    """Additive increase, multiplicative decrease.

    Args:
        ceiling: Most beams of one request.
        total: Most beams of all requests in flight.
        clamp: Whether a request beyond the limit gets fewer beams instead of a refusal.
        dynamic: Whether load lowers the limit.
        kv_high: Share of the KV cache in use that halves the limit.
        kv_low: Share below which, with no request waiting, the limit grows by one.

    Source of the rule: Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in
    computer networks", 1989.
    """

    def __init__(
        self, ceiling: int, total: int, clamp: bool, dynamic: bool, kv_high: float, kv_low: float
    ) -> None:  # fmt: skip
        self.ceiling, self._total, self._clamp, self._dynamic = ceiling, total, clamp, dynamic
        self._kv_high, self._kv_low = kv_high, kv_low
        self._adaptive, self._in_flight = ceiling, 0

    @property
    def limit(self) -> int:
        """Beams that the next request may have; one is always allowed."""
        return self._allowed(prompts=1)

    def _allowed(self, prompts: int) -> int:
        """Beams that each prompt of the next request may have."""
        return max(1, min(self._adaptive, (self._total - self._in_flight) // prompts))

    def observe(self, kv_use: float, waiting: float) -> None:
        """Adapt the limit to the share of the KV cache in use and the number of waiting requests."""
        if not self._dynamic:
            return
        if kv_use >= self._kv_high or waiting > 0:
            self._adaptive = max(1, self._adaptive // 2)
        elif kv_use <= self._kv_low:
            self._adaptive = min(self.ceiling, self._adaptive + 1)

    def judge(self, width: int, prompts: int = 1) -> Verdict:
        """Whether a request is admitted, and with how many beams.

        Args:
            width: Beams per prompt that it asks for; 1 where it decodes greedily or by sampling.
            prompts: Number of its prompts, each of which is searched with all these beams.
        """
        limit = self._allowed(prompts)
        if width <= limit:
            return Verdict(width, _together(width, prompts))
        under_load = "" if limit == self.ceiling else f" under the present load ({self.ceiling} without load)"
        each = "" if prompts == 1 else f" for each of {prompts} prompts"
        if self._clamp:
            return Verdict(limit, _together(limit, prompts), f"{width} beams requested, {limit} granted{under_load}")
        return Verdict(0, 0, f"n={width} exceeds the {limit} beams allowed{each}{under_load}: request fewer")

    def enter(self, beams: int) -> None:
        """Count a request with this number of beams as in flight; greedy ones do not count."""
        self._in_flight += beams if beams > 1 else 0

    def leave(self, beams: int) -> None:
        self._in_flight -= beams if beams > 1 else 0


def _together(width: int, prompts: int) -> int:
    return width * prompts if width > 1 else 1
