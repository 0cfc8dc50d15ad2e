"""What is said of one trial where people meet it: as Markdown, in MLflow and in Optuna's dashboard."""

from __future__ import annotations

from optimize.formatting import figure
from optimize.ledger import TrialRecord


def trial_note(record: TrialRecord) -> str:
    """Whether the trial counts and why not, its figures, and the command that starts such an engine."""
    command = record.config.get("deploy_command")
    how = f"\n\nthe engine:\n\n    {command}" if command else ""
    return (_figures(record) if record.state == "completed" else _why_none(record)) + how


def _why_none(record: TrialRecord) -> str:
    evidence = "\n".join(f"    {line}" for line in record.evidence)
    return f"**{record.state}**, not a measurement: {record.reason}\n\n{evidence}"


def _figures(record: TrialRecord) -> str:
    broken = [name for name, v in record.violations.items() if v > 0]
    verdict = "**feasible**" if record.feasible else f"**infeasible**: breaks {', '.join(broken)}"
    rows = "\n".join(f"| {name} | {figure(e)} | {e.n} |" for name, e in record.estimates.items())
    again = f", measures trial {record.confirms} again" if record.confirms is not None else ""
    verdict += f" ({record.role}{again})"
    verdict += f"\n\nmeasured no longer than needed: {record.cut_short}" if record.cut_short else ""
    verdict += f"\n\ndisturbed: {'; '.join(record.disturbed)}" if record.disturbed else ""
    return f"{verdict}\n\n| metric | value [95 % interval] | n |\n|---|---|---|\n{rows}"
