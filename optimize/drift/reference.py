"""What the row of a study was measured under, and what it measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from objectives import Estimate, RequestRecord
from objectives.intervals import mean_interval
from optimize.config.schema import StudyConfig
from optimize.decision.block_design import BlockDesign
from optimize.drift.claims import TIMES
from optimize.errors import ConfigError
from optimize.ledger import Ledger, TrialRecord, study_folder
from optimize.outcome import State
from optimize.study.capacity import figures_of_engines
from optimize.study.confirmation import recommendation
from optimize.study.rows import pick, stored_study, with_pick
from optimize.study.trials import candidates, trial_of

_LEAST_ROUNDS = 2


@dataclass(frozen=True)
class Reference:
    """What a row was measured under, and what it measured.

    Attributes:
        study: Name of the study.
        number: The row's trial.
        rounds: Rounds of measurements that its figures rest on; 0 for a single one.
        estimates: Metric -> figure.
        requests: Answered requests of its measurements, one for each prompt; empty where they are not stored.
        means: Quantity of `TIMES` -> its mean over a window, and the interval that a further measurement falls in.
        words: Overrides of the study's command.
    """

    study: str
    number: int
    rounds: int
    estimates: Mapping[str, Estimate]
    requests: Sequence[RequestRecord]
    means: Mapping[str, Estimate]
    words: Sequence[str] = ()

    def lengths(self, quantity: str) -> list[float]:
        """Values of `prompt_tokens` or `output_tokens`, one for each prompt."""
        values = (getattr(request, quantity) for request in self.requests)
        return [float(value) for value in values if value is not None]


def reference_of(config: StudyConfig) -> Reference:
    """The row that `study.name` and `row` name.

    Raises:
        ConfigError: no such study or row, or one that decodes with beams.
    """
    study = stored_study(config)
    best = recommendation(study)
    if best is None:
        raise ConfigError(f"study {study.study_name!r} has no row yet that keeps every constraint: run more trials")
    number = pick(config.row, best, candidates(study), study.study_name).number
    row = best if number == best.pick.number else with_pick(best, study, number)
    request: Mapping[str, Any] = trial_of(study, number).user_attrs["config"].get("request", {})
    if request.get("beam_size", 1) > 1:
        raise ConfigError(
            f"row={config.row} of study {study.study_name!r} decodes with {request['beam_size']} beams, of which vLLM "
            "counts each token as a request of its own: choose a row without beam search"
        )
    ledger = Ledger(study_folder(config.output_dir, study.study_name))
    measured = _measurements(list(ledger.records()), number)
    return Reference(
        study.study_name, number, row.rounds, figures_of_engines(row.pick), _requests(ledger, measured.get(number, [])),
        dict(_means(ledger, measured, number)), ledger.overrides(),
    )  # fmt: skip


def _measurements(records: Sequence[TrialRecord], number: int) -> dict[int, list[TrialRecord]]:
    """Trial -> its measurements in rounds, where the row has any; otherwise the row's own measurement alone."""
    completed = [r for r in records if r.state is State.COMPLETED]
    rounds: dict[int, list[TrialRecord]] = {}
    for record in completed:
        if record.confirms is not None:
            rounds.setdefault(record.confirms, []).append(record)
    if len(rounds.get(number, [])) >= _LEAST_ROUNDS:
        return {trial: r for trial, r in rounds.items() if len(r) >= _LEAST_ROUNDS}
    return {number: [r for r in completed if r.number == number]}


def _requests(ledger: Ledger, measured: Sequence[TrialRecord]) -> list[RequestRecord]:
    by_prompt = {r.prompt_id: r for m in measured for r in ledger.read_requests(m.number) if r.error is None}
    return list(by_prompt.values())


def _means(
    ledger: Ledger, measured: Mapping[int, Sequence[TrialRecord]], number: int
) -> Iterator[tuple[str, Estimate]]:  # fmt: skip
    windows = {trial: [_in_window(ledger, record) for record in records] for trial, records in measured.items()}
    for quantity in TIMES:
        values = {trial: [_values(window, quantity) for window in each] for trial, each in windows.items()}
        whole = {trial: v for trial, v in values.items() if v and all(v)}
        if number in whole:
            yield quantity, _mean(whole, number)


def _in_window(ledger: Ledger, record: TrialRecord) -> list[RequestRecord]:
    start = record.seconds.get("warmup", 0.0)
    end = start + record.seconds.get("window", math.inf)
    return [r for r in ledger.read_requests(record.number) if r.error is None and start <= r.due_s < end]


def _values(requests: Sequence[RequestRecord], quantity: str) -> list[float]:
    return [float(v) for v in (getattr(r, quantity) for r in requests) if v is not None and v > 0]


def _mean(values: Mapping[int, Sequence[Sequence[float]]], number: int) -> Estimate:
    """A quantity's mean in a window, and where that of a further window falls; of a single window, its own interval.

    Args:
        values: Trial -> the quantity of each request, in each of its windows.
        number: The trial.
    """
    rounds = min(len(windows) for windows in values.values())
    if rounds < _LEAST_ROUNDS:
        (only,) = values[number][:1]
        return Estimate(*mean_interval(only), n=len(only), unit="s")
    logs = np.log([[np.mean(window) for window in windows[:rounds]] for windows in values.values()])
    nothing = np.zeros(len(values))
    middle, half = BlockDesign(logs, nothing, nothing).prediction_interval(list(values).index(number))
    return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half), rounds, "s")
