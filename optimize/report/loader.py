"""Reads everything that the report shows of a study, once, from Optuna's storage and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives import Estimate
from optimize.decision.recommendation import Candidate, Evidence, Recommendation, SingleReadings
from optimize.errors import DamagedFile
from optimize.files import read_json
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import State
from optimize.report.data import Facts, InspectedTrial, Knob
from optimize.report.effects import Effect
from optimize.report.terminal import disturbance
from optimize.report.turns import turn_records
from optimize.study import confirmation
from optimize.study.info import info_of
from optimize.study.noise_floor import noise_floor_of
from optimize.study.parsimony import reduced_trials
from optimize.study.rows import Row
from optimize.study.status import failure_of
from optimize.study.trials import budget_trials, candidates

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


def gather(
    study: optuna.Study, ledger: Ledger, rows: Sequence[Row], effects: Sequence[Effect], caution: str = "",
) -> Facts:  # fmt: skip
    """Read everything of one study.

    Args:
        study: The study in Optuna's storage.
        ledger: Its folder.
        rows: The matrix over all studies.
        effects: What its knobs are shown to do.
        caution: A sentence if the conditions differ within the study; else empty.
    """
    info, records, measured = info_of(study), list(ledger.records()), candidates(study)
    recommendation = confirmation.recommendation(study)
    inspected = _inspected_numbers(recommendation, measured)
    return Facts(
        study=study.study_name,
        title=info.scenario.title,
        model=info.model,
        directions=confirmation.directions_of(study),
        weights=confirmation.weights_of(study),
        limits=list(info.limits),
        knobs=_knobs(budget_trials(study)),
        candidates=measured,
        recommendation=recommendation,
        search=confirmation.first_reading(study),
        over_runner_up=_over_runner_up(study, recommendation),
        refuted=confirmation.refuted(study),
        records=records,
        rows=rows,
        effects=effects,
        inspected=[_inspected(kind, number, ledger, records) for kind, number in inspected.items()],
        runs={r.number: run for r in records if (run := _run_of(ledger.trial_folder(r.number), ledger))},
        parent_run=_run_of(ledger.folder, ledger),
        engine_starts=len(list((ledger.folder / "engines").glob("*.log"))),
        signature=info.signature,
        caution=caution,
        failure=failure_of(ledger.folder),
        overrides=ledger.overrides(),
        scored=info.same_sample,
        reduced=reduced_trials(study),
        disturbed=disturbance(study, recommendation) if recommendation else "",
        floor=noise_floor_of(study),
    )


def _knobs(trials: Sequence[FrozenTrial]) -> list[Knob]:
    return [_knob(name, d) for t in trials[:1] for name, d in t.distributions.items()]


def _knob(name: str, distribution: Any) -> Knob:
    if hasattr(distribution, "choices"):
        return Knob(name, tuple(distribution.choices))
    low, high = float(distribution.low), float(distribution.high)
    return Knob(name, (), low, high, bool(distribution.log), isinstance(distribution.low, int))


def _over_runner_up(study: optuna.Study, recommendation: Recommendation | None) -> dict[str, Estimate]:
    if recommendation is None or recommendation.runner_up is None:
        return {}
    directions, rounds = confirmation.directions_of(study), confirmation.confirmed(study)
    evidence: Evidence = SingleReadings(recommendation.runner_up, directions, confirmation.weights_of(study))
    if recommendation.rounds and rounds is not None:
        evidence = rounds[1].relative_to(recommendation.runner_up.number)
    return {name: evidence.gain(recommendation.pick, name) for name in directions}


def _inspected_numbers(recommendation: Recommendation | None, measured: Sequence[Candidate]) -> dict[str, int]:
    """Kind -> trial; the baseline appears once, even if it is the recommendation or the runner-up."""
    numbers = {"pick": recommendation.pick.number if recommendation else None}
    numbers["runner"] = recommendation.runner_up.number if recommendation and recommendation.runner_up else None
    numbers["base"] = next((c.number for c in measured if c.baseline), None)
    inspected: dict[str, int] = {}
    for kind, number in numbers.items():
        if number is not None and number not in inspected.values():
            inspected[kind] = number
    return inspected


def _inspected(kind: str, number: int, ledger: Ledger, records: Sequence[TrialRecord]) -> InspectedTrial:
    completed = [r for r in records if r.state == State.COMPLETED]
    confirming = [r for r in completed if r.confirms == number]
    measured = confirming or [r for r in completed if r.number == number]
    windows = [_in_window(ledger.read_latencies(r.number), r) for r in measured]
    return InspectedTrial(
        kind=kind,
        number=number,
        measured=measured,
        latencies_s=[latency for window in windows for _, latency in window],
        last_s=ledger.read_latencies(measured[-1].number) if measured else [],
        series=ledger.read_series(measured[-1].number) if measured else {},
        turns=turn_records(ledger, measured),
    )


def _in_window(requests: Sequence[tuple[float, float]], record: TrialRecord) -> list[tuple[float, float]]:
    start = record.seconds.get("warmup", 0.0)
    return [(due, s) for due, s in requests if start <= due < start + record.seconds.get("window", float("inf"))]


def _run_of(folder: Path, ledger: Ledger) -> str:
    """Id of a folder's MLflow run; empty if there is none."""
    path = folder / "mlflow.json"
    try:
        return str(read_json(path, "python -m optimize.sync writes it anew").get("run_id", ""))
    except DamagedFile as error:
        ledger.damage[path] = str(error)
        return ""
