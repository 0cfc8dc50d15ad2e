"""The note of a trial in MLflow and in Optuna's dashboard, as Markdown."""

from __future__ import annotations

from optimize.formatting import figure
from optimize.ledger import TrialRecord
from optimize.outcome import State


def trial_note(record: TrialRecord) -> str:
    """Feasibility with its reasons, the figures, and the command that starts such an engine."""
    command = record.config.get("deploy_command")
    engine = f"\n\nEngine command:\n\n    {command}" if command else ""
    return (_figures(record) if record.state == State.COMPLETED else _reason(record)) + engine


def _reason(record: TrialRecord) -> str:
    evidence = "\n".join(f"    {line}" for line in record.evidence)
    return f"**{record.state}**, not measured: {record.reason}\n\n{evidence}"


def _figures(record: TrialRecord) -> str:
    violated = [name for name, excess in record.violations.items() if excess > 0]
    verdict = "**feasible**" if record.feasible else f"**infeasible**: violates {', '.join(violated)}"
    rows = "\n".join(f"| {name} | {figure(e)} | {e.n} |" for name, e in record.estimates.items())
    confirms = f" of trial {record.confirms}" if record.confirms is not None else ""
    parts = [f"{verdict} ({record.role}{confirms})"]
    parts += [f"Window closed early: {record.cut_short}"] if record.cut_short else []
    parts += [f"Disturbed: {'; '.join(record.disturbed)}"] if record.disturbed else []
    return "\n\n".join([*parts, f"| metric | value (95 % CI) | n |\n|---|---|---|\n{rows}"])
