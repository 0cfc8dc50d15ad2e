"""The note of a trial in MLflow and in Optuna's dashboard, as Markdown."""

from __future__ import annotations

from optimize.formatting import figure, markdown_block, markdown_line, markdown_text
from optimize.ledger import TrialRecord
from optimize.load.pace import Pace
from optimize.load.service_level import capacity_in_words
from optimize.outcome import State


def trial_note(record: TrialRecord) -> str:
    """Feasibility with its reasons, the figures, and the command that starts such an engine."""
    command = record.config.get("deploy_command")
    engine = f"\n\nEngine command:\n\n{markdown_block([command])}" if command else ""
    return (_figures(record) if record.state == State.COMPLETED else _reason(record)) + engine


def _reason(record: TrialRecord) -> str:
    return f"**{record.state}**, not measured: {markdown_text(record.reason)}\n\n{markdown_block(record.evidence)}"


def _window(record: TrialRecord) -> str:
    """How long the window was, and what closed it."""
    seconds, pace = record.seconds["window"], Pace.from_dict(record.pace)
    requests = f", {record.audit['sent']} requests" if "sent" in record.audit else ""
    rule = pace.in_words(seconds) if pace is not None else ""
    return f"Window: {seconds:.1f} s{requests}{f'; {rule}' if rule else ''}"


def _figures(record: TrialRecord) -> str:
    violated = [name for name, excess in record.violations.items() if excess > 0]
    verdict = "**feasible**" if record.feasible else f"**infeasible**: violates {markdown_text(', '.join(violated))}"
    rows = "\n".join(markdown_line([markdown_text(n), figure(e), str(e.n)]) for n, e in record.estimates.items())
    confirms = f" of trial {record.confirms}" if record.confirms is not None else ""
    parts = [f"{verdict} ({record.role}{confirms})"]
    parts += [_window(record)] if "window" in record.seconds else []
    parts += [capacity_in_words(record.capacity)] if record.capacity else []
    parts += [f"Ended early: {markdown_text(record.cut_short)}"] if record.cut_short else []
    parts += [f"Disturbed: {markdown_text('; '.join(record.disturbed))}"] if record.disturbed else []
    return "\n\n".join([*parts, f"| metric | value (95 % CI) | n |\n|---|---|---|\n{rows}"])
