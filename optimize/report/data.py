"""All that the report shows of a study, read from Optuna's storage and the ledger once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from objectives import Direction, Estimate
from optimize.decision.constraints import Limit
from optimize.decision.recommendation import Candidate, Evidence, Recommendation, SingleReadings
from optimize.formatting import title_of, unit_of
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Role
from optimize.report.importance import Share
from optimize.study.confirmation import (
    confirmed,
    directions_of,
    first_reading,
    recommendation,
    refuted,
    weights_of,
)
from optimize.study.info import info_of
from optimize.study.rows import Row
from optimize.study.trials import candidates, told

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

KINDS = {
    "pick": "recommended",
    "runner": "runner-up",
    "base": "vLLM's defaults",
    "front": "Pareto front",
    "plain": "dominated",
    "broken": "breaks a constraint",
}
"""How a measured trial stands, and what that is called; the first that fits counts."""


@dataclass(frozen=True)
class Knob:
    """One axis of the search space.

    Attributes:
        name: Its name.
        choices: Its values, in order; empty where it is a range.
        low: Least value of the range.
        high: Greatest value of the range.
        log: Whether the range was searched in logarithms.
        whole: Whether it is one of whole numbers.
    """

    name: str
    choices: Sequence[Any] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class InspectedTrial:
    """A configuration whose requests are looked at one by one.

    Attributes:
        kind: "pick", "runner" or "base".
        number: Its trial.
        measured: Records of the measurements its figures rest on: its own, or its confirmation's.
        latencies_s: Of every request due in a window, answered ones.
        last_s: (due, latency) of the last measurement's answered requests, in seconds since its load began.
        series: The last measurement's telemetry.
    """

    kind: str
    number: int
    measured: Sequence[TrialRecord]
    latencies_s: Sequence[float]
    last_s: Sequence[tuple[float, float]]
    series: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Facts:
    """What a report shows.

    Attributes:
        study: Name of the study.
        title: Its scenario, for people.
        model: The model's name.
        directions: Objective -> direction.
        weights: Objective -> weight in the score.
        limits: The constraints.
        knobs: The search space.
        candidates: Every measured trial, as the search read it.
        found: The recommendation; None where there is none.
        search: The recommendation as the search's single readings have it.
        over_runner_up: Objective -> how many times better the pick is than the runner-up.
        refuted: Trial that could not be measured again -> why.
        records: Every trial of the ledger.
        rows: The matrix over all studies.
        importance: What the knobs explain.
        chosen: Pick, runner-up and baseline.
        runs: Trial -> id of its MLflow run.
        parent_run: Id of the study's MLflow run; empty where MLflow was not told.
        engine_starts: How many engines were started.
        signature: What every figure depends on.
        caution: Says so where signatures differ within the study; else empty.
        overrides: What the study's command was given.
    """

    study: str
    title: str
    model: str
    directions: Mapping[str, Direction]
    weights: Mapping[str, float]
    limits: Sequence[Limit]
    knobs: Sequence[Knob]
    candidates: Sequence[Candidate]
    found: Recommendation | None
    search: Recommendation | None
    over_runner_up: Mapping[str, Estimate]
    refuted: Mapping[int, str]
    records: Sequence[TrialRecord]
    rows: Sequence[Row]
    importance: Sequence[Share]
    chosen: Sequence[InspectedTrial]
    runs: Mapping[int, str]
    parent_run: str
    engine_starts: int
    signature: Mapping[str, str]
    caution: str = ""
    overrides: Sequence[str] = ()
    _kinds: dict[int, str] = field(default_factory=dict, init=False, repr=False)
    _by_number: dict[int, TrialRecord] = field(default_factory=dict, init=False, repr=False)

    @property
    def simulated(self) -> bool:
        """Whether a stand-in answered: then no figure is a measurement."""
        return self.signature.get("engine", "").startswith("simulated")

    @property
    def baseline(self) -> Candidate | None:
        return next((c for c in self.candidates if c.baseline), None)

    def record(self, number: int) -> TrialRecord | None:
        """What the ledger has of a trial."""
        if not self._by_number:
            self._by_number.update({r.number: r for r in self.records})
        return self._by_number.get(number)

    def kind(self, candidate: Candidate) -> str:
        """One of KINDS."""
        if not self._kinds:
            self._kinds.update({c.number: self._kind(c) for c in self.candidates})
        return self._kinds[candidate.number]

    def _kind(self, c: Candidate) -> str:
        if self.found is not None and c.number == self.found.pick.number:
            return "pick"
        if c.baseline:
            return "base"
        if self.found is not None and self.found.runner_up and c.number == self.found.runner_up.number:
            return "runner"
        if not c.feasible:
            return "broken"
        best = {p.number for p in self.search.front} if self.search else set()
        return "front" if c.number in best else "plain"

    def measured_at(self, name: str) -> list[Candidate]:
        """Candidates that have this figure."""
        return [c for c in self.candidates if name in c.estimates]

    def unit(self, name: str) -> str:
        return next((c.estimates[name].unit for c in self.candidates if name in c.estimates), "")

    def limit_text(self, limit: Limit) -> str:
        """A constraint for people, e.g. "P99 latency ≤ 2 s"."""
        sign = "≤" if limit.upper else "≥"
        if limit.relative:
            return f"{title_of(limit.metric)} {sign} {limit.value:g} × the defaults'"
        factor, unit = unit_of(self.unit(limit.metric), limit.value)
        return f"{title_of(limit.metric)} {sign} {limit.value / factor:g} {unit}".rstrip()

    def unrunnable(self) -> list[TrialRecord]:
        """Trials of the search that could not be measured."""
        return [r for r in self.records if r.state in ("infeasible", "failed") and r.role != Role.CONFIRMATION]


def gather(
    study: optuna.Study, ledger: Ledger, rows: Sequence[Row], importance: Sequence[Share], caution: str = "",
) -> Facts:  # fmt: skip
    """Read everything of one study.

    Args:
        study: From Optuna's storage.
        ledger: Its folder.
        rows: The matrix over all studies.
        importance: What its knobs explain.
        caution: Says so where its signatures differ; else empty.
    """
    info, records = info_of(study), list(ledger.records())
    found = recommendation(study)
    return Facts(
        study=study.study_name,
        title=info.scenario.title,
        model=info.model,
        directions=directions_of(study),
        weights=weights_of(study),
        limits=list(info.limits),
        knobs=_knobs(told(study)),
        candidates=candidates(study),
        found=found,
        search=first_reading(study),
        over_runner_up=_over_runner_up(study, found),
        refuted=refuted(study),
        records=records,
        rows=rows,
        importance=importance,
        chosen=[_chosen(kind, n, ledger, records) for kind, n in _choice(found, candidates(study)).items()],
        runs={r.number: run for r in records if (run := _run_id(ledger, r.number))},
        parent_run=_run_of(ledger.folder),
        engine_starts=len(list((ledger.folder / "engines").glob("*.log"))),
        signature=info.signature,
        caution=caution,
        overrides=ledger.overrides(),
    )


def _knobs(trials: Sequence[FrozenTrial]) -> list[Knob]:
    return [_knob(name, d) for t in trials[:1] for name, d in t.distributions.items()]


def _knob(name: str, distribution: Any) -> Knob:
    if hasattr(distribution, "choices"):
        return Knob(name, tuple(distribution.choices))
    return Knob(
        name,
        (),
        float(distribution.low),
        float(distribution.high),
        bool(distribution.log),
        isinstance(distribution.low, int),
    )


def _over_runner_up(study: optuna.Study, found: Recommendation | None) -> dict[str, Estimate]:
    if found is None or found.runner_up is None:
        return {}
    again = confirmed(study)
    evidence: Evidence = SingleReadings(found.runner_up, directions_of(study), weights_of(study))
    if found.rounds and again is not None:
        evidence = again[1].against(found.runner_up.number)
    return {name: evidence.gain(found.pick, name) for name in directions_of(study)}


def _choice(found: Recommendation | None, measured: Sequence[Candidate]) -> dict[str, int]:
    """Kind -> trial of those that are looked at closely; the baseline once, be it the pick or the runner-up."""
    baseline = next((c.number for c in measured if c.baseline), None)
    named = {"pick": found.pick.number if found else None}
    named["runner"] = found.runner_up.number if found and found.runner_up else None
    named["base"] = baseline
    chosen: dict[str, int] = {}
    for kind, number in named.items():
        if number is not None and number not in chosen.values():
            chosen[kind] = number
    return chosen


def _chosen(kind: str, number: int, ledger: Ledger, records: Sequence[TrialRecord]) -> InspectedTrial:
    completed = [r for r in records if r.state == "completed"]
    again = [r for r in completed if r.confirms == number]
    measured = again or [r for r in completed if r.number == number]
    windows = [_in_window(ledger.read_latencies(r.number), r) for r in measured]
    return InspectedTrial(
        kind=kind,
        number=number,
        measured=measured,
        latencies_s=[latency for window in windows for _, latency in window],
        last_s=ledger.read_latencies(measured[-1].number) if measured else [],
        series=ledger.read_series(measured[-1].number) if measured else {},
    )


def _in_window(requests: Sequence[tuple[float, float]], record: TrialRecord) -> list[tuple[float, float]]:
    start = record.seconds.get("warmup", 0.0)
    return [(due, s) for due, s in requests if start <= due < start + record.seconds.get("window", float("inf"))]


def _run_id(ledger: Ledger, number: int) -> str:
    return _run_of(ledger.trial_folder(number))


def _run_of(folder: Any) -> str:
    path = folder / "mlflow.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["run_id"]) if path.is_file() else ""
