"""Everything that the report shows of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from objectives import Direction, Estimate, RequestRecord
from optimize.decision.constraints import Limit
from optimize.decision.recommendation import Candidate, Recommendation
from optimize.formatting import title_of, unit_of
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.report.effects import Effect
from optimize.study.noise_floor import NoiseFloor
from optimize.study.rows import Row

KINDS = {
    "pick": "recommended",
    "runner": "runner-up",
    "base": "vLLM's defaults",
    "front": "Pareto front",
    "plain": "dominated",
    "broken": "violates a constraint",
}
"""The classes of measured trials and their names; a trial belongs to the first that applies."""


@dataclass(frozen=True)
class Knob:
    """One axis of the search space.

    Attributes:
        name: Its name.
        choices: Its values, in order; empty if it is a range.
        low: Least value of the range.
        high: Greatest value of the range.
        log: Whether the range is searched on a logarithmic scale.
        whole: Whether it takes whole numbers only.
    """

    name: str
    choices: Sequence[Any] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class InspectedTrial:
    """A configuration whose requests the report shows one by one.

    Attributes:
        kind: "pick", "runner" or "base".
        number: Its trial.
        measured: Records of the measurements its figures rest on: those of its confirmation, else its own.
        latencies_s: Latencies of all answered requests that were due within a window.
        last_s: (due, latency) of the last measurement's answered requests, in seconds since its load began.
        series: The last measurement's telemetry.
        turns: The requests within the windows, where conversations were sent turn by turn.
    """

    kind: str
    number: int
    measured: Sequence[TrialRecord]
    latencies_s: Sequence[float]
    last_s: Sequence[tuple[float, float]]
    series: Mapping[str, Sequence[tuple[float, float]]]
    turns: Sequence[RequestRecord] = ()


@dataclass(frozen=True)
class Facts:
    """What a report shows.

    Attributes:
        study: Name of the study.
        title: Title of its scenario.
        model: Name of the model.
        directions: Objective -> direction.
        weights: Objective -> weight in the score.
        limits: The constraints.
        knobs: The search space.
        candidates: Every measured trial, with the figures that the search saw.
        recommendation: The recommendation; None if there is none.
        search: The recommendation by the search's single measurements alone.
        over_runner_up: Objective -> how many times better the recommendation is than the runner-up.
        refuted: Trial that could not be confirmed -> reason.
        records: Every trial of the ledger.
        rows: The matrix over all studies.
        effects: What the knobs are shown to do, the largest effect first.
        inspected: Recommendation, runner-up and baseline, request by request.
        runs: Trial -> id of its MLflow run.
        parent_run: Id of the study's MLflow run; empty if MLflow has none.
        engine_starts: Number of engine starts.
        signature: The conditions that every figure depends on.
        caution: A sentence if the conditions differ within the study; else empty.
        failure: Why the last session on the study failed; empty where it did not.
        overrides: Words of the command that ran the study.
        scored: Metrics that score answers.
        reduced: Trial -> its form with vLLM's default in every knob whose change is not shown to help.
        disturbed: How many measurements behind the recommendation were disturbed, and by what; empty where none was.
        floor: How nearly the model that gave the reference repeats itself; None where the workload has references.
    """

    study: str
    title: str
    model: str
    directions: Mapping[str, Direction]
    weights: Mapping[str, float]
    limits: Sequence[Limit]
    knobs: Sequence[Knob]
    candidates: Sequence[Candidate]
    recommendation: Recommendation | None
    search: Recommendation | None
    over_runner_up: Mapping[str, Estimate]
    refuted: Mapping[int, str]
    records: Sequence[TrialRecord]
    rows: Sequence[Row]
    effects: Sequence[Effect]
    inspected: Sequence[InspectedTrial]
    runs: Mapping[int, str]
    parent_run: str
    engine_starts: int
    signature: Mapping[str, str]
    caution: str = ""
    failure: str = ""
    overrides: Sequence[str] = ()
    scored: Sequence[str] = ()
    reduced: Mapping[int, int] = field(default_factory=dict)
    disturbed: str = ""
    floor: NoiseFloor | None = None
    _kinds: dict[int, str] = field(default_factory=dict, init=False, repr=False)
    _by_number: dict[int, TrialRecord] = field(default_factory=dict, init=False, repr=False)

    @property
    def simulated(self) -> bool:
        """Whether a simulated engine answered: then no figure is a measurement."""
        return self.signature.get("engine", "").startswith("simulated")

    @property
    def baseline(self) -> Candidate | None:
        return next((c for c in self.candidates if c.baseline), None)

    def label(self, name: str) -> str:
        """A metric's name for people, and what it is against where that is not the workload's references."""
        basis = self.signature.get("quality", "") if name in self.scored else ""
        return f"{title_of(name)} {basis}".rstrip()

    def record(self, number: int) -> TrialRecord | None:
        """The ledger's record of a trial."""
        if not self._by_number:
            self._by_number.update({r.number: r for r in self.records})
        return self._by_number.get(number)

    def kind(self, candidate: Candidate) -> str:
        """One of KINDS."""
        if not self._kinds:
            self._kinds.update({c.number: self._kind(c) for c in self.candidates})
        return self._kinds[candidate.number]

    def _kind(self, c: Candidate) -> str:
        final = self.recommendation
        if final is not None and c.number == final.pick.number:
            return "pick"
        if c.baseline:
            return "base"
        if final is not None and final.runner_up and c.number == final.runner_up.number:
            return "runner"
        if not c.feasible:
            return "broken"
        front = {p.number for p in self.search.front} if self.search else set()
        return "front" if c.number in front else "plain"

    def measured_at(self, name: str) -> list[Candidate]:
        """Candidates that have this figure."""
        return [c for c in self.candidates if name in c.estimates]

    def unit(self, name: str) -> str:
        return next((c.estimates[name].unit for c in self.candidates if name in c.estimates), "")

    def limit_text(self, limit: Limit) -> str:
        """A constraint with the unit of the study's figures, see `limit_text`."""
        return limit_text(limit, self.unit(limit.metric))

    def unrunnable(self) -> list[TrialRecord]:
        """Trials of the search that could not be measured."""
        return [r for r in self.records if r.state in (State.INFEASIBLE, State.FAILED) and r.role != Role.CONFIRMATION]


def limit_text(limit: Limit, unit: str) -> str:
    """A constraint as text, e.g. "P99 latency ≤ 2 s" or "BLEU ≥ 0.95× the default".

    Args:
        limit: The constraint.
        unit: Unit of its metric.
    """
    sign = "≤" if limit.upper else "≥"
    if limit.relative:
        return f"{title_of(limit.metric)} {sign} {limit.value:g}× the default"
    factor, shown_unit = unit_of(unit, limit.value)
    return f"{title_of(limit.metric)} {sign} {limit.value / factor:g} {shown_unit}".rstrip()
