"""How many beams a request may ask for: a limit that follows what the engine can bear. Pure.

vLLM's beam search resubmits every beam as a request of its own for each token, and its gauge of the KV cache misses
what is between two of them; so the limit looks at the beams of all requests in flight too, which the front knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VLLM_MAX_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request.

    Attributes:
        beams: Beams it is let through with; 0 for a request that is refused.
        asked: Beams it asked for; 1 where it decodes greedily or by sampling.
        reason: Why it is refused or clamped; empty where it is neither.
    """

    beams: int
    asked: int
    reason: str = ""


def accepted_beams(flags: Mapping[str, Any]) -> int:
    """The widest beam search that an engine with these flags takes: it needs twice as many log-probabilities."""
    given = flags.get("max_logprobs")
    return max(1, int(VLLM_MAX_LOGPROBS if given is None else given) // 2)


def asked_beams(body: Mapping[str, Any]) -> int:
    """Beams that a request's body asks for."""
    wanted = body.get("n")
    return wanted if body.get("use_beam_search") and isinstance(wanted, int) and wanted > 1 else 1


class BeamLimit:
    """Additive increase, multiplicative decrease.

    Args:
        ceiling: Beams that a request may ask for at best.
        together: Beams of all requests in flight together.
        clamp: Whether requests beyond the limit get fewer beams, or are refused.
        dynamic: Whether pressure lowers the limit.
        kv_high: Share of the KV cache in use that halves the limit.
        kv_low: Share below which, with nobody waiting, it grows by one.

    Source of the rule: Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in
    computer networks", 1989.
    """

    def __init__(
        self, ceiling: int, together: int, clamp: bool, dynamic: bool, kv_high: float, kv_low: float
    ) -> None:  # fmt: skip
        self.ceiling, self._together, self._clamp, self._dynamic = ceiling, together, clamp, dynamic
        self._kv_high, self._kv_low = kv_high, kv_low
        self._bearable, self._in_flight = ceiling, 0

    @property
    def limit(self) -> int:
        """Beams that the next request may have; one is always allowed."""
        return max(1, min(self._bearable, self._together - self._in_flight))

    def observe(self, kv_use: float, waiting: float) -> None:
        """Take in what the engine says of itself: the share of its KV cache in use, and requests that wait."""
        if not self._dynamic:
            return
        if kv_use >= self._kv_high or waiting > 0:
            self._bearable = max(1, self._bearable // 2)
        elif kv_use <= self._kv_low:
            self._bearable = min(self.ceiling, self._bearable + 1)

    def judge(self, body: Mapping[str, Any]) -> Verdict:
        """Whether a request may pass, and with how many beams."""
        asked, limit = asked_beams(body), self.limit
        if asked <= limit:
            return Verdict(asked, asked)
        why = "" if limit == self.ceiling else f" at the moment ({self.ceiling} when the engine is at ease)"
        if self._clamp:
            return Verdict(limit, asked, f"{asked} beams asked for, {limit} given{why}")
        return Verdict(0, asked, f"n={asked} beams are more than the {limit} allowed{why}: ask for fewer")

    def enter(self, beams: int) -> None:
        """A request with so many beams is in flight; greedy ones do not count."""
        self._in_flight += beams if beams > 1 else 0

    def leave(self, beams: int) -> None:
        self._in_flight -= beams if beams > 1 else 0
