"""The table of a conversation's turns: latency, time to first token, and how much of each prompt was cached."""

from __future__ import annotations

from collections.abc import Sequence

from objectives import Estimate, RequestRecord
from objectives.turns import TurnFigures, by_turn
from optimize.formatting import figure, percent, percentage
from optimize.ledger import Ledger, TrialRecord

HEADINGS = ("turn", "requests", "median latency", "median TTFT", "prompt tokens cached")


def turn_records(ledger: Ledger, measured: Sequence[TrialRecord]) -> list[RequestRecord]:
    """The requests due in the windows of measurements; empty where no conversation has more than one turn."""
    return [request for record in measured for request in _in_window(ledger.read_turns(record.number), record)]


def _in_window(requests: Sequence[RequestRecord], record: TrialRecord) -> list[RequestRecord]:
    start_s = record.seconds.get("warmup", 0.0)
    end_s = start_s + record.seconds.get("window", float("inf"))
    return [request for request in requests if start_s <= request.due_s < end_s]


def turn_rows(requests: Sequence[RequestRecord]) -> list[tuple[str, ...]]:
    """One row per turn, with the columns of HEADINGS."""
    return [_row(figures) for figures in by_turn(requests)]


def _row(figures: TurnFigures) -> tuple[str, ...]:
    turn = f"{figures.turn} and later" if figures.open_ended else str(figures.turn)
    return turn, str(figures.requests), figure(figures.latency), _shown(figures.ttft), _share(figures.cached)


def _share(cached: Estimate | None) -> str:
    if cached is None:
        return "not reported"
    exact = percent(cached.low) == percent(cached.high)
    return percent(cached.value) if exact else percentage(cached.value, cached.low, cached.high)


def _shown(estimate: Estimate | None) -> str:
    return "–" if estimate is None else figure(estimate)


def early_ends(requests: Sequence[RequestRecord]) -> str:
    """How many conversations ended before their last turn, and why, in a sentence; empty where none did."""
    failed = sum(r.dropped > 0 and r.error is not None for r in requests)
    too_long = sum(r.dropped > 0 and r.error is None for r in requests)
    reasons = [f"{failed} because a turn failed"] if failed else []
    reasons += [f"{too_long} because the next turn would have exceeded the model's context"] if too_long else []
    return f"Conversations that ended early: {', '.join(reasons)}." if reasons else ""


def turn_table(requests: Sequence[RequestRecord]) -> list[str]:
    """The lines of the table in Markdown, and of what is to be said about it; empty without later turns."""
    if not requests:
        return []
    rows = [HEADINGS, ("---",) * len(HEADINGS), *turn_rows(requests)]
    return [*(f"| {' | '.join(row)} |" for row in rows), *filter(None, [early_ends(requests)])]
