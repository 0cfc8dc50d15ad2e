"""The note of a trial in MLflow and in Optuna's dashboard, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from optimize.formatting import figure
from optimize.ledger import TrialRecord
from optimize.outcome import State


def trial_note(record: TrialRecord) -> str:
    """Feasibility with its reasons, the figures, and the command that starts such an engine."""
    command = record.config.get("deploy_command")
    engine = f"\n\nEngine command:\n\n{_verbatim([command])}" if command else ""
    return (_figures(record) if record.state == State.COMPLETED else _reason(record)) + engine


def _reason(record: TrialRecord) -> str:
    return f"**{record.state}**, not measured: {_literal(record.reason)}\n\n{_verbatim(record.evidence)}"


def _literal(text: str) -> str:
    """A text without Markdown: an engine's log may hold what would be a picture from elsewhere, a link or HTML."""
    return re.sub(r"([\\`*_<>\[\]!|])", r"\\\1", " ".join(text.split()))


def _verbatim(texts: Iterable[str]) -> str:
    """Texts as a block of code, which no line of them can end."""
    return "\n".join(f"    {line}" for text in texts for line in text.splitlines())


def _figures(record: TrialRecord) -> str:
    violated = [name for name, excess in record.violations.items() if excess > 0]
    verdict = "**feasible**" if record.feasible else f"**infeasible**: violates {', '.join(violated)}"
    rows = "\n".join(f"| {name} | {figure(e)} | {e.n} |" for name, e in record.estimates.items())
    confirms = f" of trial {record.confirms}" if record.confirms is not None else ""
    parts = [f"{verdict} ({record.role}{confirms})"]
    parts += [f"Window closed early: {_literal(record.cut_short)}"] if record.cut_short else []
    parts += [f"Disturbed: {_literal('; '.join(record.disturbed))}"] if record.disturbed else []
    return "\n\n".join([*parts, f"| metric | value (95 % CI) | n |\n|---|---|---|\n{rows}"])
