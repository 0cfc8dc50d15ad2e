"""Figures of conversations by turn: latency, time to first token, and the share of each prompt that was cached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from objectives.base import Estimate, RequestRecord
from objectives.intervals import quantile_interval

_MOST_ALONE = 6


@dataclass(frozen=True, slots=True)
class TurnFigures:
    """The requests of one turn, or of several late ones together.

    Attributes:
        turn: The turn, from 1; the first of them where there are several.
        open_ended: Whether later turns are among them.
        requests: How many requests there are, failed ones included.
        latency: Median time from due to complete answer; failed requests count with their time.
        ttft: Median time from due to first token; None where answers do not stream.
        cached: Share of the prompts' tokens that the server found in its cache; None where it does not say.
    """

    turn: int
    open_ended: bool
    requests: int
    latency: Estimate
    ttft: Estimate | None
    cached: Estimate | None


def by_turn(records: Sequence[RequestRecord]) -> list[TurnFigures]:
    """The figures of every turn, the sixth and all later ones together.

    Args:
        records: Requests due in a window, those without an answer included.
    """
    last = max((r.turn for r in records), default=0)
    groups: dict[int, list[RequestRecord]] = {}
    for record in records:
        groups.setdefault(min(record.turn, _MOST_ALONE), []).append(record)
    return [_figures(turn, last > turn == _MOST_ALONE, groups[turn]) for turn in sorted(groups)]


def _figures(turn: int, open_ended: bool, records: Sequence[RequestRecord]) -> TurnFigures:
    answered = [r for r in records if r.error is None]
    waits = [r.ttft_s for r in answered if r.ttft_s is not None]
    ttft = _median(waits) if waits else None
    return TurnFigures(
        turn, open_ended, len(records), _median([r.latency_s for r in records]), ttft, cached_share(answered)
    )


def _median(seconds: Sequence[float]) -> Estimate:
    return Estimate(*quantile_interval(seconds, 0.5), n=len(seconds), unit="s")


def cached_share(answered: Sequence[RequestRecord]) -> Estimate | None:
    """Tokens that the server found in its cache, as a share of all tokens of the prompts.

    The interval is that of a ratio of two means. Source: Cochran, "Sampling techniques", 1977, section 6.3.

    Args:
        answered: Answered requests; those of which the server does not say it are left out.

    Returns:
        None where it says it of none.
    """
    tokens = [(r.cached_tokens, r.prompt_tokens) for r in answered if r.cached_tokens is not None and r.prompt_tokens]
    total = sum(prompt for _, prompt in tokens)
    if not total:
        return None
    share, n = sum(cached for cached, _ in tokens) / total, len(tokens)
    squares = sum((cached - share * prompt) ** 2 for cached, prompt in tokens)
    half = 1.96 * math.sqrt(n * squares / (n - 1)) / total if n > 1 else 1.0
    return Estimate(share, max(0.0, share - half), min(1.0, share + half), n, "share")
