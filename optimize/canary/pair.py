"""One request as two engines answered it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """What a request says about the candidate, beside the engine that serves.

    Attributes:
        at_s: When it was complete, in seconds of any clock.
        seconds: The serving engine's time for the whole answer.
        failed: Whether the candidate failed where the serving engine answered.
        latency: The candidate's time for the whole answer over the serving engine's; None where that says nothing.
        first_token: Likewise for the time to the first piece of a streamed answer.
        agreement: Share of the answer that is the same, from 0 to 1; None unless both decode greedily.
        length: The candidate's words over the serving engine's; None where one of the answers is empty.
    """

    at_s: float
    seconds: float
    failed: bool = False
    latency: float | None = None
    first_token: float | None = None
    agreement: float | None = None
    length: float | None = None


def agreement(one: Sequence[str], other: Sequence[str]) -> float:
    """Share of words up to the first that differs, of the longer answer; the mean over a request's several answers.

    After the first different word greedy decoding continues two different texts, which need not be alike any more.
    """
    if not one and not other:
        return 1.0
    if len(one) != len(other):
        return 0.0
    return sum(map(_alike, one, other)) / len(one)


def _alike(one: str, other: str) -> float:
    if one == other:
        return 1.0
    words, others = one.split(), other.split()
    longest = max(len(words), len(others))
    different = (n for n, (word, second) in enumerate(zip(words, others, strict=False)) if word != second)
    return next(different, min(len(words), len(others))) / longest if longest else 0.0
