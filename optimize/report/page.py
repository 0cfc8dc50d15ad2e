"""The report: one HTML file that needs nothing else, and its figures as SVG and PNG files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimize.decision.recommendation import Candidate
from optimize.files import write_atomically
from optimize.formatting import figure, shown_value, title_of, value_of
from optimize.redaction import without_credentials
from optimize.report import sections
from optimize.report.charts import capacity, effects, evidence, parallel, requests, space, tradeoffs
from optimize.report.charts.canvas import Drawing, style_sheet
from optimize.report.charts.png import write_png
from optimize.report.data import KINDS, Facts
from optimize.report.effects import explanation, lines_of
from optimize.report.environment import environment, script_digest
from optimize.report.matrix import knobs_of
from optimize.report.rationale import rationale, verdict
from optimize.report.sliders import ranking, sliders

TEMPLATES = Path(__file__).parent / "templates"
_LOCAL_UI = "http://127.0.0.1:5000"
_DRAWN = ".drawn.json"
"""File beside the figures with the names of those of the last report."""


@dataclass(frozen=True)
class Figures:
    """All drawings of a report, by the section that shows them."""

    confirmation: Sequence[Drawing]
    pairs: Sequence[Drawing]
    space: Sequence[Drawing]
    parallel: Sequence[Drawing]
    effects: Sequence[Drawing]
    requests: Sequence[Drawing]
    search: Sequence[Drawing]
    capacity: Sequence[Drawing] = ()

    def every(self) -> list[Drawing]:
        groups = (self.confirmation, self.capacity, self.pairs, self.space, self.parallel, self.effects)
        return [drawing for group in (*groups, self.requests, self.search) for drawing in group]


def draw(facts: Facts) -> Figures:
    """All figures that the study has data for."""
    turning = space.in_space(facts)
    return Figures(
        confirmation=evidence.confirmation(facts),
        pairs=tradeoffs.pairs(facts) if facts.candidates else [],
        space=[turning] if turning else [],
        parallel=[parallel.parallel(facts)] if facts.candidates else [],
        effects=effects.drawings(facts),
        requests=requests.drawings(facts),
        search=[*evidence.convergence(facts), evidence.time_bar(facts)],
        capacity=capacity.drawings(facts),
    )


def write_report(facts: Facts, folder: Path, ui: str) -> list[Path]:
    """Write report.html, and every figure under figures/ as SVG and PNG.

    Args:
        facts: Content of the report.
        folder: Destination.
        ui: Address of MLflow's pages.

    Returns:
        The page, and the folder of its figures.
    """
    figures, page, beside = draw(facts), folder / "report.html", folder / "figures"
    beside.mkdir(parents=True, exist_ok=True)
    _remove_drawn(beside)
    for drawing in figures.every():
        path = beside / f"{drawing.name}.svg"
        write_atomically(path, drawing.svg_file())
        write_png(drawing, path.with_suffix(".png"))
    write_atomically(beside / _DRAWN, json.dumps([drawing.name for drawing in figures.every()]))
    write_atomically(page, html(facts, figures, ui))
    return [page, beside]


def _remove_drawn(folder: Path) -> None:
    """Remove the figures of the last report; what else somebody keeps beside them stays."""
    with suppress(OSError, ValueError):  # the first report, or one of an earlier version
        for name in json.loads((folder / _DRAWN).read_text(encoding="utf-8")):
            for suffix in (".svg", ".png"):
                (folder / Path(f"{name}{suffix}").name).unlink(missing_ok=True)


def ui_of(configured: str | None, tracking_uri: str) -> str:
    """Address of MLflow's pages: as configured, else the tracking server, else what scripts/ui serves."""
    server = tracking_uri if tracking_uri.startswith(("http://", "https://")) else _LOCAL_UI
    return without_credentials(configured or server).rstrip("/")


def html(facts: Facts, figures: Figures, ui: str, written: str = "") -> str:
    """The page.

    Args:
        facts: Its content.
        figures: Its drawings.
        ui: Address of MLflow's pages.
        written: When it was written, of a page without files beside it; empty for now.
    """
    from markupsafe import Markup

    css, *scripts = (
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js", "sliders.js")
    )
    js = "".join(scripts)
    ranks = ranking(facts)
    return environment(TEMPLATES).get_template("report.html.j2").render(
        facts=facts, figures=figures, recommendation=facts.recommendation, objectives=list(facts.directions),
        css=Markup(style_sheet() + css), js=Markup(js), script=script_digest(js), data=Markup(data(facts, ui, ranks)),
        verdict=verdict(facts.recommendation) if facts.recommendation else "", rationale=rationale(facts),
        effects=lines_of(facts.effects), explained=explanation(facts.effects, len(facts.candidates)), sections=sections,
        sliders=sliders(ranks), matrix_knobs=knobs_of(facts.rows), ranked=sections.ranked(facts),
        inspected=sections.inspected(facts), deployment=sections.deployment(facts),
        excluded=sections.excluded(facts), reproduction=sections.reproduction(facts),
        written=written or f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", study_run=run_link(ui, facts.parent_run),
        trial_run=lambda number: run_link(ui, facts.runs.get(number, "")), files=[] if written else figures.every(),
    )  # fmt: skip


def run_link(ui: str, run: str) -> str:
    """MLflow's page of a run; empty if MLflow has no such run."""
    return f"{ui}/#/runs/{run}" if run else ""


def data(facts: Facts, ui: str, ranks: Mapping[str, Any] | None = None) -> str:
    """What the page's scripts show of each trial, and rank, as JSON that may stand within a script element."""
    document = {
        "runs": run_link(ui, "@").removesuffix("@"), "kinds": KINDS, "knobs": [k.name for k in facts.knobs],
        "objectives": [[n, title_of(n)] for n in facts.directions],
        "trials": [_trial(facts, c) for c in facts.candidates], "ranks": ranks,
    }  # fmt: skip
    return json.dumps(document, separators=(",", ":"), default=str, ensure_ascii=False).replace("<", "\\u003c")


def _trial(facts: Facts, c: Candidate) -> dict[str, Any]:
    figures = [c.estimates.get(name) for name in facts.directions]
    return {
        "n": c.number, "k": facts.kind(c), "p": {k: _short(v) for k, v in c.params.items()},
        "f": [figure(e) if e else "–" for e in figures],
        "v": [float(f"{e.value:.5g}") if e else None for e in figures],
        "s": value_of(facts.search.scores[c.number]) if facts.search else "–",
        "r": facts.runs.get(c.number, ""), "w": _warnings(facts, c),
    }  # fmt: skip


def _warnings(facts: Facts, c: Candidate) -> list[str]:
    record = facts.record(c.number)
    if record is None:
        return []
    texts = {limit.name: facts.limit_text(limit) for limit in facts.limits}
    violated = [] if c.feasible else [name for name, excess in record.violations.items() if excess > 0]
    disturbed = ["The machine was disturbed during this measurement."] if record.disturbed else []
    return [*(f"Violates {texts.get(name, name)}." for name in violated), *disturbed]


def _short(value: Any) -> Any:
    return shown_value(value) if value is None or isinstance(value, float) else value
