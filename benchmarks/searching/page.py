"""The page that compares samplers, from the studies that a folder holds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from scipy import stats

from benchmarks.common import provenance
from benchmarks.searching.measured_table import TableProblem
from benchmarks.searching.problem import Problem
from benchmarks.searching.problems import PROBLEMS, problem
from benchmarks.searching.samplers import OURS, SAMPLERS
from benchmarks.searching.study import Step

SHARES = (0.90, 0.95)
AFTER = (20, 30, 50)
_EARLY, _LEAST = 30, 4
Studies = Mapping[str, Sequence[list[Step]]]


def page(folder: Path) -> str:
    """Markdown of all problems for which there are studies."""
    sections = [
        "# The search, judged on tables that others have measured",
        provenance("python -m benchmarks.searching").replace("Measured", "Replayed"),
        "The vLLM and SGLang tables are from LLMSYS-HPOBench (arXiv 2605.08305, repository ideas-labo/llmsys-hpobench, "
        "CC BY 4.0): other people's measurements, kept with their source in `benchmarks/data/llmsys-hpobench`. Every "
        "study begins with the defaults. Values are medians with quartiles. *Share*: of the best known hypervolume, by "
        "the truth and not by the readings. A study that did not get to 90 or 95 % counts as one trial more than it "
        "had. *Seconds* are those of starts, of measuring, and of a processor for the sampler's thinking. Ours weighs "
        "what a trial costs: where engines are started, its trials are shorter. So shares are also compared after "
        f"equal time, the median time of ours for all of its trials. *No measurement*: of the first {_EARLY} trials. "
        "p: Mann and Whitney, two-sided, of these shares against those of ours; none where either has fewer than "
        f"{_LEAST} studies.",
    ]
    for name in PROBLEMS:
        studies = {s: _read(folder / name / s) for s in SAMPLERS if (folder / name / s).is_dir()}
        if studies:
            sections += section(problem(name, folder), studies)
    return "\n\n".join(sections) + "\n"


def _read(folder: Path) -> list[list[Step]]:
    return [[Step(**step) for step in json.loads(p.read_text(encoding="utf-8"))] for p in sorted(folder.glob("*.json"))]


def section(subject: Problem, studies: Studies) -> list[str]:
    """What the problem is, and two tables with a row per sampler: how far by trials, and at what price."""
    ours = studies.get(OURS, [])
    progress = [
        "| sampler | studies | " + " | ".join(f"share after {n}" for n in AFTER)
        + f" | p ({_EARLY}) | trials to 90 % | to 95 % | reached 95 % by {_EARLY} |",
        "|---" * (6 + len(AFTER)) + "|",
        *(_progress(name, theirs, ours) for name, theirs in studies.items()),
    ]  # fmt: skip
    limit_s = statistics.median(steps[-1].spent_s for steps in ours or next(iter(studies.values())))
    price = [
        f"| sampler | share after {limit_s:.0f} s | p | seconds to 90 % | to 95 % | no measurement | failures repeated "
        "| slowest suggestion |",
        "|---" * 8 + "|",
        *(_price(name, theirs, ours, limit_s) for name, theirs in studies.items()),
    ]
    return [f"## {subject.name}", _described(subject), "\n".join(progress), "\n".join(price)]


def _described(subject: Problem) -> str:
    text = f"{len(subject.space)} knobs; objectives: {', '.join(subject.objectives)}."
    if isinstance(subject, TableProblem):
        fits = ", ".join(f"{n} {subject.fit[n]:.2f} ({subject.fit_within[n]:.2f})" for n in subject.fit)
        text += f" Cross-validated R² on logarithms (within one value of {subject.group}): {fits}."
        if subject.success_fit is not None:
            text += f" What runs is foreseen in cross-validation: {subject.success_fit:.1%} of the configurations."
    return text


def _progress(name: str, studies: Sequence[list[Step]], ours: Sequence[list[Step]]) -> str:
    after = [[_after_trials(steps, n) for steps in studies] for n in AFTER]
    to_90, to_95 = ([_trials_to(steps, share) for steps in studies] for share in SHARES)
    cells = [
        name, str(len(studies)), *(_quartiles(shares, "{:.2f}") for shares in after),
        _p(name, *([_after_trials(steps, _EARLY) for steps in part] for part in (studies, ours))),
        _quartiles(to_90, "{:g}"), _quartiles(to_95, "{:g}"), f"{sum(n <= _EARLY for n in to_95)} of {len(studies)}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _price(name: str, studies: Sequence[list[Step]], ours: Sequence[list[Step]], limit_s: float) -> str:
    early = [step for steps in studies for step in steps[:_EARLY]]
    after, of_ours = ([_after_seconds(steps, limit_s) for steps in part] for part in (studies, ours))
    cells = [
        name, _quartiles(after, "{:.2f}"), _p(name, after, of_ours),
        *(_quartiles([_seconds_to(steps, share) for steps in studies], "{:.0f}") for share in SHARES),
        f"{statistics.fmean(not s.measured for s in early):.0%}",
        str(sum(s.repeated for steps in studies for s in steps)),
        f"{statistics.median(max(s.thinking_s for s in steps) for steps in studies):.2f} s",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _after_trials(steps: Sequence[Step], n: int) -> float:
    return steps[min(n, len(steps)) - 1].share


def _after_seconds(steps: Sequence[Step], limit_s: float) -> float:
    return max((step.share for step in steps if step.spent_s <= limit_s), default=0.0)


def _trials_to(steps: Sequence[Step], share: float) -> int:
    return next((n for n, step in enumerate(steps, start=1) if step.share >= share), len(steps) + 1)


def _seconds_to(steps: Sequence[Step], share: float) -> float:
    return next((step.spent_s for step in steps if step.share >= share), math.inf)


def _quartiles(values: Sequence[float], pattern: str) -> str:
    """Median and quartiles; beyond the last finite value it was not reached."""
    last = len(values) - 1
    places = [(math.floor(part * last), math.ceil(part * last)) for part in (0.25, 0.5, 0.75)]
    ranked = sorted(values)
    quartiles = [(ranked[below] + ranked[above]) / 2 for below, above in places]
    low, middle, high = (pattern.format(q) if math.isfinite(q) else "not reached" for q in quartiles)
    return middle if low == high else f"{middle} ({low} to {high})"


def _p(name: str, theirs: Sequence[float], ours: Sequence[float]) -> str:
    if name == OURS or min(len(theirs), len(ours)) < _LEAST:
        return ""
    return f"{float(stats.mannwhitneyu(ours, theirs).pvalue):.2g}"
