"""The recommended configuration matrix: one measured row per scenario, as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives import Estimate
from optimize.ledger import write_atomically
from optimize.recommend import Candidate, Recommendation
from optimize.report.format import figure
from optimize.report.signatures import differences, warning

_KNOBS = ("quantization", "batch_size", "beam_size", "workers")


@dataclass(frozen=True)
class Row:
    """The recommendation of one study.

    Attributes:
        scenario: Scenario name.
        title: Scenario for people.
        study: Study name.
        found: The recommendation.
        objectives: The study's objectives, in order.
        config: What was run: checkpoint, flags, request, deploy command.
        signature: What the figures depend on besides.
        date: UTC date of the measurement.
    """

    scenario: str
    title: str
    study: str
    found: Recommendation
    objectives: Sequence[str]
    config: Mapping[str, Any]
    signature: Mapping[str, str]
    date: str

    def to_dict(self) -> dict[str, Any]:
        pick, other = self.found.pick, self.found.runner_up
        return {
            "scenario": self.scenario,
            "title": self.title,
            "study": self.study,
            "trial": pick.number,
            "params": dict(pick.params),
            "estimates": {n: e.to_dict() for n, e in pick.estimates.items()},
            "gains_over_vllm_defaults": {n: e.to_dict() for n, e in self.found.gains.items()},
            "score": self.found.score.to_dict(),
            "better_than_defaults": self.found.decisive,
            "runner_up": None if other is None else {"trial": other.number, "params": dict(other.params)},
            "runner_up_tied": self.found.tied,
            "rounds": self.found.rounds,
            "first_reading": {n: e.to_dict() for n, e in pick.first.items()},
            "config": dict(self.config),
            "signature": dict(self.signature),
            "date": self.date,
        }


def knobs_of(rows: Sequence[Row]) -> list[str]:
    """The four knobs first, then any others, as far as a row has them."""
    seen = {name for row in rows for name in row.found.pick.params}
    return [k for k in _KNOBS if k in seen] + sorted(seen.difference(_KNOBS))


def to_markdown(rows: Sequence[Row]) -> str:
    """The matrix as a Markdown table, with what its figures depend on below it."""
    knobs = knobs_of(rows)
    objectives = list(dict.fromkeys(name for row in rows for name in row.objectives))
    head = ["scenario", *knobs, *objectives, "gain over vLLM defaults", "runner-up"]
    lines = [markdown_line(head), markdown_line(["---"] * len(head))]
    for row in rows:
        pick = row.found.pick
        figures = [figure(pick.estimates[n]) if n in pick.estimates else "–" for n in objectives]
        settings = [_shown(pick.params.get(k, "–")) for k in knobs]
        lines.append(markdown_line([row.title, *settings, *figures, _gains(row), _runner_up(row)]))
    notes = [
        f"- **{row.scenario}**: study `{row.study}`, trial {row.found.pick.number}, {_evidence(row)}, {row.date}; "
        f"{_signed(row)}"
        for row in rows
    ]
    # Workload and load differ from scenario to scenario; these must not.
    mixed = differences([(row.scenario, row.signature) for row in rows], ["machine", "engine", "model"])
    caution = [warning(mixed, "compare within a row, not between rows"), ""] if mixed else []
    head_note = ["", "Figures are means or quantiles [95 % interval].", ""]
    return "\n".join([*lines, *head_note, *caution, *notes]) + "\n"


def front_markdown(row: Row, front: Sequence[Candidate]) -> str:
    """The Pareto front of one study as a Markdown table, in the order given."""
    knobs = knobs_of([row])
    lines = [
        markdown_line(["trial", *knobs, *row.objectives]),
        markdown_line(["---"] * (1 + len(knobs) + len(row.objectives))),
    ]
    for c in front:
        settings = [_shown(c.params.get(k, "–")) for k in knobs]
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
        line: dict[str, Any] = {"scenario": row.scenario, "study": row.study, "trial": row.found.pick.number}
        line |= {k: row.found.pick.params.get(k) for k in knobs}
        line |= _columns(row.found.pick.estimates, "") | _columns(row.found.gains, "gain_")
        line |= {"score": row.found.score.value, "date": row.date, **row.signature}
        flat.append(line)
    return to_csv_lines(flat)


def to_csv_lines(lines: Sequence[Mapping[str, Any]]) -> str:
    """Flat lines as CSV, with the columns that any of them has."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def write_matrix(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write matrix.md, matrix.json and matrix.csv; returns their paths."""
    texts = {
        "matrix.md": to_markdown(rows),
        "matrix.json": json.dumps([row.to_dict() for row in rows], indent=1, default=str),
        "matrix.csv": to_csv(rows),
    }
    return write_files(texts, folder)


def write_files(texts: Mapping[str, str], folder: Path) -> list[Path]:
    """Write files whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]


def _columns(estimates: Mapping[str, Estimate], prefix: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, e in estimates.items():
        found |= {f"{prefix}{name}": e.value, f"{prefix}{name}_low": e.low, f"{prefix}{name}_high": e.high}
    return found


def markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def shown_settings(params: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={_shown(v)}" for k, v in params.items())


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _evidence(row: Row) -> str:
    if row.found.rounds:
        return f"means of {row.found.rounds} rounds [where a further measurement falls]"
    return "a single reading"


def _gains(row: Row) -> str:
    if row.found.pick.baseline:
        return "none: vLLM's defaults are best"
    return ", ".join(f"{name} {figure(e)}" for name, e in row.found.gains.items())


def _runner_up(row: Row) -> str:
    other = row.found.runner_up
    if other is None:
        return "–"
    return f"trial {other.number}: {shown_settings(other.params)}" + (" (tied)" if row.found.tied else "")


def _signed(row: Row) -> str:
    return "; ".join(f"{key}: {value}" for key, value in row.signature.items())
