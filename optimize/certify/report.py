"""The certificate as Markdown and JSON, and a chart of the stress test."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from objectives import Estimate
from optimize.certify.faults import FAULTS
from optimize.certify.results import FaultResult, grouped, mean_of, over_repeats
from optimize.certify.schedule import STRESS
from optimize.certify.verdict import Verdict, judge, judge_stress
from optimize.config.certify import Certify
from optimize.files import write_files
from optimize.formatting import figure, markdown_line
from optimize.report.charts.scales import scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = ("detection_s", "down_s", "recovery_s", "longest_s", "lost", "retried", "delayed", "requests", "restarts")
_HEADS = (
    "scenario", "mitigation", "detected after", "down", "P99 normal after", "longest wait", "lost", "retried",
    "delayed", "of requests", "restarts", "affected", "verdict",
)  # fmt: skip
_CURVE = (
    ("offered_per_s", "offered", "1/s"), ("answered_per_s", "answered", "1/s"), ("p50_s", "median", "s"),
    ("p99_s", "P99", "s"), ("send_lag_p99_s", "send lag (P99)", "s"), ("client_cpu", "client's CPU use", ""),
)  # fmt: skip
Groups = Mapping[tuple[str, bool], list[FaultResult]]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Origin of the figures: title of the configuration, signature, command, date."""

    title: str
    signature: Mapping[str, str]
    command: str
    date: str


def write_report(runs: Sequence[FaultResult], provenance: Provenance, settings: Certify, folder: Path) -> list[Path]:
    """Write certify.md, certify.json and, with a stress test, stress.png; returns their paths."""
    groups = grouped(runs)
    stress = groups.get((STRESS, False), [])
    texts = {
        "certify.md": to_markdown(groups, provenance, settings),
        "certify.json": to_json(groups, provenance, settings),
    }
    paths = write_files(texts, folder)
    if any(r.tables.get("curve") for r in stress):
        paths.append(draw(stress, folder / "stress.png"))
    return paths


def verdicts(groups: Groups, settings: Certify) -> dict[tuple[str, bool], Verdict]:
    return {
        key: judge_stress(runs, settings) if key[0] == STRESS else judge(runs, settings)
        for key, runs in groups.items()
    }  # fmt: skip


def to_json(groups: Groups, provenance: Provenance, settings: Certify) -> str:
    judged = verdicts(groups, settings)
    rows = [
        {
            "scenario": name, "mitigation": FAULTS[name].mitigation if mitigated else None,
            "certified": judged[name, mitigated].certified, "why": judged[name, mitigated].why,
            "figures": {n: e.to_dict() for n, e in _all(runs).items()}, "runs": [dataclasses.asdict(r) for r in runs],
        }
        for (name, mitigated), runs in groups.items()
    ]  # fmt: skip
    return json.dumps(
        {**dataclasses.asdict(provenance), "certify": dataclasses.asdict(settings), "rows": rows}, indent=1
    )


def _all(runs: Sequence[FaultResult]) -> dict[str, Estimate]:
    names = dict.fromkeys(name for r in runs for name in r.figures)
    means = {name: over_repeats(runs, name) for name in names}
    return {name: mean for name, mean in means.items() if mean is not None}


def to_markdown(groups: Groups, provenance: Provenance, settings: Certify) -> str:
    """The whole certificate."""
    signature = "; ".join(f"{key}: {value}" for key, value in provenance.signature.items())
    lines = [f"# Certificate: {provenance.title}", ""]
    lines += [
        f"Measured on {provenance.date} with `{provenance.command}`; {signature}.",
        "Figures are means over the repetitions, with 95 % intervals (Student's t).", "",
    ]  # fmt: skip
    faults = {key: runs for key, runs in groups.items() if key[0] != STRESS}
    if faults:
        lines += ["## Faults under load", "", *_fault_table(faults, settings), "", *_fault_notes(faults)]
    if stress := groups.get((STRESS, False)):
        lines += ["## Stress", "", judge_stress(stress, settings).in_words() + ".", "", *_stress(stress, settings)]
    return "\n".join(lines).rstrip() + "\n"


def _fault_table(groups: Groups, settings: Certify) -> list[str]:
    lines = [markdown_line(_HEADS), markdown_line(["---"] * len(_HEADS))]
    for (name, mitigated), runs in groups.items():
        scenario = FAULTS[name]
        cells = [_cell(over_repeats(runs, column)) for column in _COLUMNS]
        who = "; ".join(dict.fromkeys(r.words["who"] for r in runs if "who" in r.words)) or "–"
        mitigation = (scenario.mitigation if mitigated else None) or "none"
        lines.append(markdown_line([scenario.title, mitigation, *cells, who, judge(runs, settings).in_words()]))
    return lines


def _cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None else figure(estimate)


def _fault_notes(groups: Groups) -> list[str]:
    lines = []
    for (name, mitigated), runs in groups.items():
        mitigation = FAULTS[name].mitigation if mitigated else None
        lines.append(f"- **{FAULTS[name].title}{f', {mitigation}' if mitigation else ''}**")
        for run in runs:
            if run.error:
                lines.append(f"  - repetition {run.repeat + 1}: {run.error}")
                continue
            normal = f"normal P99 {run.figures['normal_p99_s'] * 1000:.0f} ms at {run.figures['rate_per_s']:.1f}/s"
            parts = [normal, *run.notes, run.words.get("causes", ""), _lost(run), *run.doubts, *run.disturbed]
            lines.append(f"  - repetition {run.repeat + 1}: {'; '.join(filter(None, parts))}")
    return [*lines, ""]


def _lost(run: FaultResult) -> str:
    return f"lost: {run.words['lost']}" if run.words.get("lost") else ""


def _stress(runs: Sequence[FaultResult], settings: Certify) -> list[str]:
    lines = [f"Each rate for {settings.stress_step_s:g} s on an idle engine:", "", *_over_rows(runs, "curve", ()), ""]
    lines += ["The same mean rate in less regular patterns:", "", *_over_rows(runs, "patterns", ("pattern",)), ""]
    lines += [f"Ramp: {runs[0].words['ramp']}.", ""]
    lines += _ramp(runs)
    for run in runs:
        f = run.figures
        parts = [
            f"{f['requests']:.0f} requests, {f['lost']:.0f} lost ({run.words['errors'] or 'none'})",
            f"at most {f['peak_answered_per_s']:.0f} answers/s, P99 {f['peak_p99_s']:.1f} s",
            f"at most {f['waiting_max']:.0f} waiting in the engine", f"P99 broke at {run.words['broke'] or 'no rate'}",
            f"client: {run.words['audit']}", *run.doubts, *run.notes,
        ]  # fmt: skip
        lines.append(f"- repetition {run.repeat + 1}: {'; '.join(parts)}")
    return [*lines, ""]


def _over_rows(runs: Sequence[FaultResult], table: str, labels: Sequence[str]) -> list[str]:
    """A table of the stress test, with rows averaged over the repetitions."""
    heads = [*labels, *(head for _, head, _ in _CURVE), "errors", "kept up"]
    lines = [markdown_line(heads), markdown_line(["---"] * len(heads))]
    for rows in zip(*(r.tables[table] for r in runs), strict=False):
        cells = [str(rows[0][label]) for label in labels]
        cells += [_mean([row[name] for row in rows], unit) for name, _, unit in _CURVE]
        errors = sum(sum(row["errors"].values()) for row in rows)
        lines.append(markdown_line([*cells, str(errors), f"{sum(row['kept'] for row in rows)} of {len(rows)}"]))
    return lines


def _mean(values: Sequence[float], unit: str) -> str:
    return figure(mean_of(values, unit))


def _ramp(runs: Sequence[FaultResult]) -> list[str]:
    heads = ["second", "offered", "answered", "P99", "waiting in the engine", "errors"]
    lines = [markdown_line(heads), markdown_line(["---"] * len(heads))]
    for rows in zip(*(r.tables["ramp"] for r in runs), strict=False):
        waiting = [row["waiting"] for row in rows if row["waiting"] is not None]
        lines.append(
            markdown_line(
                [
                    str(rows[0]["second"]), _mean([row["offered_per_s"] for row in rows], "1/s"),
                    _mean([row["answered_per_s"] for row in rows], "1/s"), _mean([row["p99_s"] for row in rows], "s"),
                    _mean(waiting, "") if waiting else "–", str(sum(sum(row["errors"].values()) for row in rows)),
                ]
            )
        )  # fmt: skip
    return [*lines, ""]


def draw(runs: Sequence[FaultResult], path: Path) -> Path:
    """Chart of answers per second and P99 over the offered rate, one line per repetition."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chart, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for run in runs:
        curve: list[dict[str, Any]] = run.tables["curve"]
        offered = [row["offered_per_s"] for row in curve]
        left.plot(offered, [row["answered_per_s"] for row in curve], "o-", label=f"repetition {run.repeat + 1}")
        right.plot(offered, [row["p99_s"] for row in curve], "o-")
    highest = max(row["offered_per_s"] for run in runs for row in run.tables["curve"])
    left.plot(np.array([0, highest]), np.array([0, highest]), "--", color="grey", label="equal to the offered rate")
    left.set(xlabel="offered, requests/s", ylabel="answered, requests/s", xlim=(0, None), ylim=(0, None))
    right.set(xlabel="offered, requests/s", xlim=(0, None), yscale="log")
    label_times(right, [row["p99_s"] for run in runs for row in run.tables["curve"]])
    left.legend()
    chart.savefig(path, dpi=120)
    pyplot.close(chart)
    return path


def label_times(panel: Axes, times_s: Sequence[float]) -> None:
    """Label a logarithmic axis of times in readable units: matplotlib's own ticks read 9x10^-1."""
    scale = scale_of([t for t in times_s if t > 0] or [1.0], 0.0, 1.0, "s", log=True)
    values, labels = zip(*scale.ticks(6), strict=True)
    panel.set_yticks(values, labels)
    panel.set_yticks([], minor=True)
    panel.set_ylabel(f"P99 latency from the due time, {scale.shown_unit}")
