"""A table as Markdown, CSV, JSON, on a terminal, and as a figure that opens offline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.table import Table as RichTable

from objectives import Estimate
from optimize.files import to_csv_lines, write_atomically, write_files
from optimize.formatting import figure, markdown_line
from optimize.report.figures import write_html
from optimize.tables.changes import change_text
from optimize.tables.comparison import Grid, Row
from optimize.tables.folklore import folklore, label
from optimize.tables.result import Result
from optimize.tables.shares import Share, shares_markdown

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LEGEND = (
    "Figures have 95 % intervals: for quality, confidence intervals over other prompts; for the others, prediction "
    "intervals of one further measurement. After the semicolon stands the change against the first row with its 95 % "
    "confidence interval: for quality on the prompts that both rows answered, with the p value of approximate "
    "randomization; for the others within the rounds. **Bold** changes are significant."
)
_SHARES_LEGEND = (
    "From {measurements} measurements, with 95 % intervals. A pair's share is what it explains beyond its two knobs. "
    "Every combination was measured equally often; the variation from round to round is removed."
)


def lines_of(grid: Grid, columns: Mapping[str, str], strong: str = "**") -> list[list[str]]:
    """The table as text, its head first: a column per value of one knob, or a line per point of two."""
    head = [*grid.part.knobs, *columns.values()]
    body = [
        [*(str(value) for value in row.settings.values()), *(_cell(row, metric, strong) for metric in columns)]
        for row in grid.rows
    ]
    lines = [head, *body]
    return lines if len(grid.part.knobs) > 1 else [list(line) for line in zip(*lines, strict=True)]


def refused(grid: Grid) -> list[str]:
    """A sentence on every row without figures."""
    return [f"{label(row.settings)} could not be measured: {row.refused}" for row in grid.rows if row.refused]


def _cell(row: Row, metric: str, strong: str) -> str:
    level = row.levels.get(metric)
    if level is None:
        return "–"
    change, paired = row.changes.get(metric), row.paired.get(metric)
    text = change_text(change, paired)
    if not text:
        return figure(level)
    significant = paired.significant if paired else change is not None and not change.low <= 1 <= change.high
    return f"{figure(level)}; {strong}{text}{strong}" if significant else f"{figure(level)}; {text}"


def to_markdown(result: Result) -> str:
    """The table as a section of a document."""
    lines = [f"## {result.title}", ""]
    for grid, shares in zip(result.grids, result.shares, strict=True):
        lines += _markdown_table(grid, result.columns)
        lines += ["", *(f"- {sentence}" for sentence in refused(grid))] if refused(grid) else []
        if verdicts := folklore(grid):
            lines += ["", "Common claims, checked against these measurements:", "", *(f"- {v}" for v in verdicts)]
        if len(grid.part.knobs) > 1:
            lines += ["", *_importance(shares, grid.rounds * len(grid.readings))]
        lines.append("")
    return "\n".join([*lines, _LEGEND, "", *(f"- {note}" for note in result.notes)]) + "\n"


def _importance(shares: Sequence[Share], measurements: int) -> list[str]:
    if not shares:
        return ["Not enough evidence on these knobs: a combination is missing, or no figure varies."]
    return shares_markdown(shares, _SHARES_LEGEND.format(measurements=measurements)).splitlines()


def _markdown_table(grid: Grid, columns: Mapping[str, str]) -> list[str]:
    head, *body = lines_of(grid, columns)
    return [markdown_line(head), markdown_line(["---"] * len(head)), *map(markdown_line, body)]


def show(result: Result, console: Console) -> None:
    """Print it on a console that takes brackets for text (`optimize.formatting.terminal`)."""
    for grid in result.grids:
        head, *body = lines_of(grid, result.columns, strong="")
        table = RichTable(*head, title=result.title, show_lines=True)
        for line in body:
            table.add_row(*line)
        console.print(table)
        for sentence in (*refused(grid), *folklore(grid)):
            console.print(f"  {sentence}", soft_wrap=True)
    for shares in result.shares:
        for share in shares:
            console.print(f"  {share.in_words()}", soft_wrap=True)
    for note in result.notes:
        console.print(f"  {note}", soft_wrap=True)


def to_lines(result: Result) -> list[dict[str, Any]]:
    """One flat line per row: every figure and every change with the ends of its interval."""
    lines = []
    for grid in result.grids:
        for row in grid.rows:
            line: dict[str, Any] = {**row.settings, "refused": row.refused, "rounds": grid.rounds}
            for name, level in row.levels.items():
                line |= _ends(name, level)
            for name, change in row.changes.items():
                line |= _ends(f"{name}.change", change)
            for name, paired in row.paired.items():
                line |= _ends(f"{name}.difference", paired.difference) | {f"{name}.p": paired.p}
            lines.append(line)
    return lines


def _ends(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}


def metrics_of(result: Result) -> dict[str, float]:
    """Metric key, of row and metric -> figure or change, for the tracker."""
    metrics: dict[str, float] = {}
    for grid in result.grids:
        for row in grid.rows:
            name = label(row.settings).replace("=", " ")
            metrics |= {f"{name}/{metric}": e.value for metric, e in row.levels.items()}
            metrics |= {f"{name}/{metric}.change": e.value for metric, e in row.changes.items()}
    return metrics


def drawing(grid: Grid, columns: Mapping[str, str]) -> go.Figure:
    """Each column a panel: the last knob along its axis, a line for each value of the first where there are two."""
    shown = {m: h for m, h in columns.items() if any(m in row.levels for row in grid.rows)}
    width = min(3, max(1, len(shown)))
    height = max(1, -(-len(shown) // width))
    plot = make_subplots(rows=height, cols=width, subplot_titles=list(shown.values()))
    *lines, along = grid.part.knobs
    groups = list(dict.fromkeys(row.settings[lines[0]] for row in grid.rows)) if lines else [""]
    for place, metric in enumerate(shown):
        for number, group in enumerate(groups):
            rows = [r for r in grid.rows if metric in r.levels and (not lines or r.settings[lines[0]] == group)]
            trace = _trace(rows, metric, along, str(group), _COLOURS[number % len(_COLOURS)], not place and bool(lines))
            plot.add_trace(trace, row=place // width + 1, col=place % width + 1)
    plot.update_xaxes(title_text=along, type="category")
    plot.update_layout(
        template="plotly_white", height=330 * height + 90,
        title={"text": f"{' × '.join(grid.part.knobs)}, 95 % intervals"},
    )  # fmt: skip
    return plot


def _trace(rows: Sequence[Row], metric: str, along: str, group: str, colour: str, legend: bool) -> go.Scatter:
    levels = [row.levels[metric] for row in rows]
    return go.Scatter(
        x=[str(row.settings[along]) for row in rows], y=[e.value for e in levels], name=group, legendgroup=group,
        showlegend=legend, mode="lines+markers", marker={"color": colour, "size": 8},
        line={"color": colour, "width": 1},
        error_y={
            "type": "data", "array": [e.high - e.value for e in levels],
            "arrayminus": [e.value - e.low for e in levels], "thickness": 1,
        },
        text=[f"{label(row.settings)}<br>{metric}: {figure(row.levels[metric])}" for row in rows],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def write(result: Result, folder: Path) -> list[Path]:
    """Write table.md, table.csv, table.json, and a figure of each part; returns their paths."""
    lines = to_lines(result)
    document = {
        "title": result.title, "rows": lines, "notes": list(result.notes),
        "folklore": [sentence for grid in result.grids for sentence in folklore(grid)],
        "shares": [
            {"figure": s.figure, "knobs": s.knobs, "share": s.value, "low": s.low, "high": s.high, "chance": s.chance}
            for shares in result.shares
            for s in shares
        ],
    }  # fmt: skip
    texts = {
        "table.md": to_markdown(result), "table.csv": to_csv_lines(lines), "table.json": json.dumps(document, indent=1),
    }  # fmt: skip
    files = write_files(texts, folder)
    for grid in result.grids:
        path = folder / f"{'-'.join(grid.part.knobs)}.html"
        files.append(write_html(drawing(grid, result.columns), path))
    return files


def put_into(path: Path, title: str, section: str) -> None:
    """Put a section into a Markdown document, in place of the one of the same heading, or at its end."""
    text = path.read_text(encoding="utf-8") if path.is_file() else "# Tables\n"
    before, heading, after = text.partition(f"## {title}\n")
    if not heading:
        write_atomically(path, f"{text.rstrip()}\n\n{section}")
        return
    _, following, rest = after.partition("\n## ")
    write_atomically(path, before + section + (f"\n## {rest}" if following else ""))
