"""The report: one HTML file that needs nothing else, and its figures as SVG and PNG files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimize.decision.recommendation import Candidate
from optimize.files import write_atomically
from optimize.formatting import figure, interval_of, shown_settings, title_of, value_of
from optimize.outcome import Role
from optimize.report.charts import evidence, requests, tradeoffs
from optimize.report.charts.canvas import Drawing, style_sheet
from optimize.report.charts.png import write_png
from optimize.report.data import KINDS, Facts, InspectedTrial
from optimize.report.matrix import knobs_of
from optimize.report.rationale import AGAIN, reasons, verdict, why
from optimize.report.time_spent import costs_of

TEMPLATES = Path(__file__).parent / "templates"
_SHOWN_OF_A_REASON, _RANKED = 5, 10
_LOCAL_UI = "http://127.0.0.1:5000"
_NOT_REPEATED = ("study.fresh=", "study.trials=", "study.minutes=", "study.name=", "output_dir=", "confirm.", "search.")


@dataclass(frozen=True)
class Figures:
    """All drawings of a report, by the section that shows them."""

    confirmation: Sequence[Drawing]
    pairs: Sequence[Drawing]
    space: Sequence[Drawing]
    parallel: Sequence[Drawing]
    importance: Sequence[Drawing]
    requests: Sequence[Drawing]
    search: Sequence[Drawing]

    def every(self) -> list[Drawing]:
        groups = (self.confirmation, self.pairs, self.space, self.parallel, self.importance, self.requests, self.search)
        return [drawing for group in groups for drawing in group]


def draw(facts: Facts) -> Figures:
    """Draw everything there is to draw; what has no data is left out."""
    space = tradeoffs.in_space(facts)
    return Figures(
        confirmation=evidence.confirmation(facts),
        pairs=tradeoffs.pairs(facts) if facts.candidates else [],
        space=[space] if space else [],
        parallel=[tradeoffs.parallel(facts)] if facts.candidates else [],
        importance=evidence.importance(facts),
        requests=requests.drawings(facts),
        search=[*evidence.convergence(facts), evidence.time_bar(facts)],
    )


def write_report(facts: Facts, folder: Path, ui: str) -> list[Path]:
    """Write report.html, and every figure under figures/ as SVG and PNG.

    Args:
        facts: What it shows.
        folder: Where to.
        ui: Address of MLflow's pages.

    Returns:
        The page, and the figures' folder.
    """
    figures, page, beside = draw(facts), folder / "report.html", folder / "figures"
    beside.mkdir(parents=True, exist_ok=True)
    for old in beside.iterdir():
        old.unlink()
    for drawing in figures.every():
        path = beside / f"{drawing.name}.svg"
        write_atomically(path, drawing.svg_file())
        write_png(drawing, path.with_suffix(".png"))
    write_atomically(page, html(facts, figures, ui))
    return [page, beside]


def ui_of(configured: str | None, tracking_uri: str) -> str:
    """Where MLflow's pages are: as configured, else the tracking server, else what scripts/ui serves."""
    server = tracking_uri if tracking_uri.startswith(("http://", "https://")) else _LOCAL_UI
    return (configured or server).rstrip("/")


def html(facts: Facts, figures: Figures, ui: str) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "figure": figure,
        "value": value_of,
        "interval": interval_of,
        "title_of": title_of,
        "settings": shown_settings,
    }
    environment.filters["svg"] = lambda drawing: Markup(drawing.svg())
    read = (TEMPLATES / "report.css").read_text(encoding="utf-8"), (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html.j2").render(
        facts=facts, figures=figures, found=facts.found, objectives=list(facts.directions),
        css=Markup(style_sheet() + read[0]), js=Markup(read[1]), data=Markup(data(facts, ui)),
        verdict=verdict(facts.found) if facts.found else "", why=why(facts), legend=_legend(facts),
        kinds=KINDS, knobs=knobs_of(facts.rows), reasons=_reasons(facts), spent=_spent(facts),
        reproduce=_reproduce(facts), generated=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", span=_span(facts),
        parent=run_link(ui, facts.parent_run), gain=_gain, link=lambda n: run_link(ui, facts.runs.get(n, "")),
        ranked=_ranked(facts), deploy=_deploy(facts), chosen=_chosen(facts), files=figures.every(),
    )  # fmt: skip


def run_link(ui: str, run: str) -> str:
    """MLflow's page of a run; empty where MLflow was not told of it."""
    return f"{ui}/#/runs/{run}" if run else ""


def data(facts: Facts, ui: str) -> str:
    """What the page's script shows of each trial, as JSON that may stand within a script element."""
    trials = [_trial(facts, c) for c in facts.candidates]
    found = {
        "runs": run_link(ui, "@").removesuffix("@"), "kinds": KINDS, "knobs": [k.name for k in facts.knobs],
        "objectives": [[n, title_of(n)] for n in facts.directions], "trials": trials,
    }  # fmt: skip
    return json.dumps(found, separators=(",", ":"), default=str, ensure_ascii=False).replace("<", "\\u003c")


def _trial(facts: Facts, c: Candidate) -> dict[str, Any]:
    record = facts.record(c.number)
    broken = [n for n, v in record.violations.items() if v > 0] if record and not c.feasible else []
    texts = {limit.name: facts.limit_text(limit) for limit in facts.limits}
    notes = [f"breaks {texts.get(n, n)}" for n in broken]
    if record is not None and record.disturbed:
        notes.append("disturbed while it was measured")
    return {
        "n": c.number, "k": facts.kind(c), "p": {k: _short(v) for k, v in c.params.items()},
        "f": [figure(c.estimates[n]) if n in c.estimates else "–" for n in facts.directions],
        "v": [float(f"{c.estimates[n].value:.5g}") if n in c.estimates else None for n in facts.directions],
        "s": value_of(facts.search.scores[c.number]) if facts.search else "–",
        "r": facts.runs.get(c.number, ""), "w": notes,
    }  # fmt: skip


def _short(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value


def _legend(facts: Facts) -> list[dict[str, Any]]:
    from markupsafe import Markup

    return [
        {"kind": kind, "name": name, "count": count, "symbol": Markup(symbol)}
        for kind, name, count, symbol in tradeoffs.legend(facts)
    ]


def _gain(facts: Facts, name: str) -> tuple[str, str]:
    """(how the pick compares with vLLM's defaults in one objective, class of that)."""
    assert facts.found is not None
    e = facts.found.gains[name]
    if facts.found.pick.baseline:
        return "this is the default", "even"
    if e.low <= 1.0 <= e.high:
        return f"not told apart: {figure(e)}", "even"
    return f"{figure(e)} as good as the default", "better" if e.low > 1.0 else "worse"


def _ranked(facts: Facts) -> list[Candidate]:
    """Candidates of the comparison with the baseline, best score first."""
    found = facts.found
    if found is None:
        return []
    shown = found.considered if found.rounds else [*found.front, *(c for c in found.considered if c.baseline)]
    ranked = sorted({c.number: c for c in shown}.values(), key=lambda c: -found.scores[c.number].value)
    return [c for place, c in enumerate(ranked) if place < _RANKED or c.baseline]


def _reasons(facts: Facts) -> list[dict[str, Any]]:
    """Rows of the table of what could not be used."""
    return [
        {
            "reason": reason, "count": len(numbers), "rest": len(numbers) - _SHOWN_OF_A_REASON,
            "trials": [_unused(facts, n, reason) for n in numbers[:_SHOWN_OF_A_REASON]],
        }
        for reason, numbers in reasons(facts).items()
    ]  # fmt: skip


def _unused(facts: Facts, number: int, reason: str) -> dict[str, Any]:
    """A trial that could not be used: its settings, and what is known beyond the reason."""
    record = facts.record(number)
    assert record is not None
    more = facts.refuted[number] if reason == AGAIN else record.reason
    return {"number": number, "params": record.params, "reason": more}


def _spent(facts: Facts) -> list[tuple[str, str]]:
    searched = [r for r in facts.records if r.role != Role.CONFIRMATION and r.state in ("completed", "infeasible")]
    again = sum(r.role == Role.CONFIRMATION for r in facts.records)
    seconds = sum(r.seconds.get("wall", 0.0) for r in facts.records)
    found = [
        ("trials of the search", str(len(searched))),
        ("measured", str(len(facts.candidates))),
        ("kept every constraint", str(sum(c.feasible for c in facts.candidates))),
        ("confirming measurements", str(again)),
        ("minutes in trials", f"{seconds / 60:.1f}"),
        ("engine starts", str(facts.engine_starts)),
    ]
    costs = costs_of(facts.records)
    if costs is not None and costs.overhead_new_s is not None:
        found.append(("median overhead with a new engine", f"{costs.overhead_new_s:.1f} s"))
    if costs is not None and costs.overhead_live_s is not None:
        found.append(("median overhead on a live engine", f"{costs.overhead_live_s:.1f} s"))
    return found


def _span(facts: Facts) -> str:
    times = [t for r in facts.records for t in (r.started_at, r.ended_at) if t]
    if not times:
        return ""
    first, last = (datetime.fromtimestamp(t, UTC) for t in (min(times), max(times)))
    same = f"{first:%Y-%m-%d %H:%M} to {last:%H:%M} UTC"
    return same if first.date() == last.date() else f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _deploy(facts: Facts) -> list[str]:
    """The serving command and what each request must say, of the pick."""
    if facts.found is None:
        return []
    record = facts.record(facts.found.pick.number)
    if record is None or not record.config:
        return []
    lines = [record.config["deploy_command"]] if record.config.get("deploy_command") else []
    request = record.config["request"]
    fields = dict(request["fields"])
    if request["beam_size"] > 1:
        fields = {"use_beam_search": True, "n": request["beam_size"], **fields}
    return [*lines, *([f"in each request: {json.dumps(fields)}"] if fields else [])]


def _reproduce(facts: Facts) -> list[dict[str, str]]:
    """For each candidate the command that measures it again."""
    given = [word for word in facts.overrides if not word.startswith(_NOT_REPEATED)]
    if not any(word.startswith("+study=") for word in given):
        return []
    return [{"name": _name(c), "command": _measure(given, c.params)} for c in _ranked(facts)]


def _name(c: Candidate) -> str:
    return "vLLM's defaults" if c.baseline else f"trial {c.number}"


def _measure(given: Sequence[str], params: Mapping[str, Any]) -> str:
    words = [*given, *(f"+at.{knob}={value}" for knob, value in params.items()), "repeats=3"]
    return f"python -m optimize.measure {shlex.join(words)}"


def _chosen(facts: Facts) -> list[dict[str, Any]]:
    return [_about(facts, c) for c in facts.chosen if c.latencies_s]


def _about(facts: Facts, c: InspectedTrial) -> dict[str, Any]:
    number = "vLLM's defaults" if c.kind == "base" else f"trial {c.number}"
    times = f"{len(c.measured)} measurement{'s' if len(c.measured) != 1 else ''}"
    return {"kind": c.kind, "name": KINDS[c.kind], "who": number, "n": len(c.latencies_s), "times": times}
