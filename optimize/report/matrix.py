"""The recommended configuration matrix: one measured row per scenario, as Markdown, JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from objectives import Estimate
from optimize.decision.recommendation import Candidate
from optimize.files import to_csv_lines, write_files
from optimize.formatting import change_of, figure, markdown_line, ratio, shown_settings, shown_value
from optimize.study.rows import Row
from optimize.study.signatures import differences, warning

_KNOBS = ("quantization", "batch_size", "beam_size", "workers")
_LEGEND = (
    "Figures have 95 % intervals: confidence intervals of single measurements, prediction intervals of confirmed ones. "
    "Relative to vLLM's defaults: the figure as a multiple of the default's, with its 95 % confidence interval."
)


def knobs_of(rows: Sequence[Row]) -> list[str]:
    """The knobs that the rows vary: the four main ones first, then the others by name."""
    names = {name for row in rows for name in row.recommendation.pick.params}
    return [k for k in _KNOBS if k in names] + sorted(names.difference(_KNOBS))


def to_markdown(rows: Sequence[Row], text: Callable[[str], str] = str) -> str:
    """The matrix as a Markdown table, with the conditions of each row below it.

    Args:
        rows: The rows.
        text: Applied to every text that comes from a configuration; where the table is rendered, it escapes them.
    """
    knobs = knobs_of(rows)
    objectives = list(dict.fromkeys(name for row in rows for name in row.objectives))
    head = ["scenario", *map(text, knobs), *map(text, objectives), "relative to vLLM's defaults", "runner-up"]
    lines = [markdown_line(head), markdown_line(["---"] * len(head))]
    for row in rows:
        pick = row.recommendation.pick
        figures = [figure(pick.estimates[n]) if n in pick.estimates else "–" for n in objectives]
        settings = [text(shown_value(pick.settings.get(k, "–"))) for k in knobs]
        lines.append(markdown_line([text(row.title), *settings, *figures, text(_gains(row)), text(_runner_up(row))]))
    notes = [
        f"- **{text(row.scenario)}**: study `{row.study}`, trial {row.recommendation.pick.number}, {_evidence(row)}, "
        f"{row.date}; {text(_conditions(row))}"
        for row in rows
    ]
    # Workload and load differ from scenario to scenario; these must not.
    mixed = differences([(row.scenario, row.signature) for row in rows], ["machine", "engine", "model"])
    caution = [text(warning(mixed, "compare figures within a row, not between rows")), ""] if mixed else []
    head_note = ["", _LEGEND, ""]
    return "\n".join([*lines, *head_note, *caution, *notes]) + "\n"


def front_markdown(row: Row, front: Sequence[Candidate]) -> str:
    """The Pareto front of one study as a Markdown table, in the order given."""
    knobs = knobs_of([row])
    lines = [
        markdown_line(["trial", *knobs, *row.objectives]),
        markdown_line(["---"] * (1 + len(knobs) + len(row.objectives))),
    ]
    for c in front:
        settings = [shown_value(c.settings.get(k, "–")) for k in knobs]
        lines.append(markdown_line([str(c.number), *settings, *(figure(c.estimates[n]) for n in row.objectives)]))
    return "\n".join(lines) + "\n"


def front_csv(front: Sequence[Candidate]) -> str:
    """One line per point of the front; every metric with the ends of its interval."""
    return to_csv_lines([{"trial": c.number, **c.params, **_columns(c.estimates, "")} for c in front])


def front_json(row: Row, front: Sequence[Candidate]) -> str:
    points = [
        {"trial": c.number, "params": dict(c.params), "estimates": {n: e.to_dict() for n, e in c.estimates.items()}}
        for c in front
    ]
    return json.dumps({"study": row.study, "signature": dict(row.signature), "front": points}, indent=1, default=str)


def write_front(row: Row, front: Sequence[Candidate], folder: Path) -> list[Path]:
    """Write front.md, front.json and front.csv; returns their paths."""
    texts = {
        "front.md": front_markdown(row, front),
        "front.json": front_json(row, front),
        "front.csv": front_csv(front),
    }
    return write_files(texts, folder)


def to_csv(rows: Sequence[Row]) -> str:
    """One line per row; every figure with the ends of its interval."""
    knobs = knobs_of(rows)
    flat = []
    for row in rows:
        line: dict[str, Any] = {"scenario": row.scenario, "study": row.study, "trial": row.recommendation.pick.number}
        line |= {k: row.recommendation.pick.params.get(k) for k in knobs}
        line |= _columns(row.recommendation.pick.estimates, "") | _columns(row.recommendation.gains, "gain_")
        line |= {"score": row.recommendation.score.value, "date": row.date, **row.signature}
        flat.append(line)
    return to_csv_lines(flat)


def write_matrix(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write matrix.md, matrix.json and matrix.csv; returns their paths."""
    texts = {
        "matrix.md": to_markdown(rows),
        "matrix.json": json.dumps([row.to_dict() for row in rows], indent=1, default=str),
        "matrix.csv": to_csv(rows),
    }
    return write_files(texts, folder)


def _columns(estimates: Mapping[str, Estimate], prefix: str) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, e in estimates.items():
        columns |= {f"{prefix}{name}": e.value, f"{prefix}{name}_low": e.low, f"{prefix}{name}_high": e.high}
    return columns


def _evidence(row: Row) -> str:
    if row.recommendation.rounds:
        return f"means of {row.recommendation.rounds} rounds"
    return "a single measurement"


def _gains(row: Row) -> str:
    if row.recommendation.pick.baseline:
        return "the defaults are best"
    return ", ".join(
        f"{name} {ratio(change_of(e, row.objectives[name]))}" for name, e in row.recommendation.gains.items()
    )


def _runner_up(row: Row) -> str:
    other = row.recommendation.runner_up
    if other is None:
        return "–"
    return f"trial {other.number}: {shown_settings(other.settings)}" + (" (tied)" if row.recommendation.tied else "")


def _conditions(row: Row) -> str:
    return "; ".join(f"{key}: {value}" for key, value in row.signature.items())
