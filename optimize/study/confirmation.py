"""Before a recommendation, its candidates are measured again, in rounds with the baseline: those figures it rests on.

The best of many noisy readings is partly the luckiest (the winner's curse), and single readings do not tell how far
two of them differ for no reason. Each round measures every candidate once, in a random order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from objectives import Direction, Estimate
from optimize.config.schema import LEAST_ROUNDS, Confirm
from optimize.decision.constraints import violations
from optimize.decision.recommendation import AnswerPairs, Candidate, Recommendation, Rounds, recommend
from optimize.outcome import ROLE, Role
from optimize.study.info import info_of
from optimize.study.queue import drop_queue, enqueue
from optimize.study.trial_attributes import CONFIRMING, CONFIRMS, ROUND, estimates_of
from optimize.study.trials import (
    candidates,
    complete,
    levelled_quality,
    paired_so_far,
    ratios_of,
    remembered,
    told,
    trial_of,
)

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_PLANS = "confirmations"
"""Attribute of a study: of each confirmation the trials, the baseline first, and how many were told before it, and
how many candidates it was to have."""


Drain = Callable[[Callable[[int], bool]], None]


@dataclass(frozen=True)
class Cell:
    """One measurement of a confirmation: a trial in a round."""

    confirming: int
    trial: int
    round: int

    def attributes(self) -> dict[str, Any]:
        return {ROLE: Role.CONFIRMATION, CONFIRMING: self.confirming, CONFIRMS: self.trial, ROUND: self.round}

    def is_of(self, trial: FrozenTrial) -> bool:
        return all(trial.user_attrs.get(name) == value for name, value in self.attributes().items())


class Confirmation:
    """Measures the front's best candidates again, and the baseline; resumes where a session before left off.

    Args:
        study: The study, its search done.
        settings: How many candidates and rounds.
        seed: Of the order within each round.
        run_next: Runs the trial that is queued first.
        drain: Runs trials in several places at a time, given what queues the next one for a place; None runs them one
            after the other. A round belongs to one place: what it compares ran on the same device, one after the other.
    """

    def __init__(
        self, study: optuna.Study, settings: Confirm, seed: int, run_next: Callable[[], None] | None = None,
        drain: Drain | None = None,
    ) -> None:  # fmt: skip
        self._study, self._settings, self._seed = study, settings, seed
        self._run_next, self._drain = run_next, drain or self._one_by_one
        self._places: dict[int, int] = {}
        self._tried: set[Cell] = set()

    def run(self) -> None:
        """Measure what is still to be measured of it; where no candidate keeps every constraint, go on to the next."""
        if not self._settings.candidates:
            return
        drop_queue(self._study, Role.CONFIRMATION)  # what the search had no time for must not run in between
        confirming, numbers = self._plan()
        while numbers:
            self._measure_all(confirming, numbers)
            again = confirmed(self._study)
            if again is None or any(c.feasible and not c.baseline for c in again[0]):
                return
            before = numbers
            confirming, numbers = self._plan(anew=True)
            if numbers == before:
                return

    def _plan(self, anew: bool = False) -> tuple[int, list[int]]:
        """Which confirmation it is, and of which trials: the last one, unless the search went on to a better front.

        No trials where nothing but the baseline could be recommended.
        """
        plans = self._study.user_attrs.get(_PLANS, [])
        now = {"after": len(told(self._study)), "candidates": self._settings.candidates}
        if anew or not plans or any(plans[-1][key] != value for key, value in now.items()):
            numbers = best_of(self._study, self._settings.candidates)
            if len(numbers) < 2:
                return len(plans), []
            if not plans or plans[-1]["trials"] != numbers:
                plans = [*plans, {"trials": numbers}]
            plans[-1] |= now
            self._study.set_user_attr(_PLANS, plans)
        return len(plans) - 1, plans[-1]["trials"]

    def _measure_all(self, confirming: int, numbers: list[int]) -> None:
        rng = random.Random(f"{self._seed}-{confirming}")
        rounds = [
            [Cell(confirming, trial, number) for trial in rng.sample(numbers, k=len(numbers))]
            for number in range(self._settings.rounds)
        ]
        self._tried.clear()
        for _ in range(2):  # the second time, what a place that is gone has left
            self._places.clear()
            self._drain(lambda place: self._queue_next(rounds, numbers[0], place))

    def _one_by_one(self, more: Callable[[int], bool]) -> None:
        assert self._run_next is not None
        while more(0):
            self._run_next()

    def _queue_next(self, rounds: Sequence[Sequence[Cell]], baseline: int, place: int) -> bool:
        """See that the next measurement of a place's round is queued; False where there is none for it now."""
        trials = [t for t in self._study.get_trials(deepcopy=False) if t.user_attrs.get(ROLE) == Role.CONFIRMATION]
        if any(t.state.name == "WAITING" for t in trials):
            return True
        for number, cells in enumerate(rounds):
            if self._places.get(number, place) != place:
                continue
            out = refuted(self._study, cells[0].confirming).keys()
            left = [] if baseline in out else [c for c in cells if c.trial not in out and self._is_left(c, trials)]
            if any(t.state.name == "RUNNING" and cell.is_of(t) for t in trials for cell in cells):
                continue  # a round is measured one after the other, here or by another driver
            if left:
                self._places[number] = place
                self._tried.add(left[0])
                enqueue(self._study, trial_of(self._study, left[0].trial).params, **left[0].attributes())
                return True
        return False

    def _is_left(self, cell: Cell, trials: Sequence[FrozenTrial]) -> bool:
        """Whether it is still to be measured: retries are queued by whoever runs trials, and used up by then."""
        return cell not in self._tried and not any(t.state.name == "COMPLETE" and cell.is_of(t) for t in trials)


def best_of(study: optuna.Study, candidates_max: int) -> list[int]:
    """Numbers of the baseline, and of the front's best after it as the search read them.

    What mostly broke a constraint when it was measured again, or could not be measured, is left out.
    """
    kept: dict[int, list[bool]] = {}
    for trial in complete(study):
        if CONFIRMS in trial.user_attrs:
            kept.setdefault(trial.user_attrs[CONFIRMS], []).append(bool(trial.user_attrs.get("feasible")))
    every = candidates(study)
    left = [c for c in every if c.baseline or 2 * sum(kept.get(c.number, [])) >= len(kept.get(c.number, []))]
    found = recommend(left, directions_of(study), weights_of(study))
    if found is None:
        return []
    baseline = next(c.number for c in every if c.baseline)
    return [baseline, *[c.number for c in found.front if not c.baseline][:candidates_max]]


def recommendation(study: optuna.Study) -> Recommendation | None:
    """The recommendation for the study's own scenario: on confirmed figures alone where there are any."""
    again = confirmed(study)
    if again is None:
        return first_reading(study)
    confirmed_candidates, rounds = again
    return recommend(confirmed_candidates, directions_of(study), weights_of(study), rounds)


@remembered
def first_reading(study: optuna.Study) -> Recommendation | None:
    """The recommendation as the search's single readings have it."""
    return recommend(candidates(study), directions_of(study), weights_of(study))


def confirmed(study: optuna.Study) -> tuple[list[Candidate], Rounds] | None:
    """The candidates as the last confirmation has them; None where there is none, or the search has gone on since."""
    plans = study.user_attrs.get(_PLANS, [])
    if not plans or plans[-1]["after"] != len(told(study)):
        return None
    confirming, info = len(plans) - 1, info_of(study)
    baseline = plans[-1]["trials"][0]
    readings = _whole_rounds(study, confirming, plans[-1]["trials"])
    if baseline not in readings:
        return None
    measured = {c.number: c for c in candidates(study)}
    answers = {n: trial_of(study, n).user_attrs.get("answers_key", "") for n in readings}
    so_far = paired_so_far(study)
    paired = {n: so_far.get(key, {}) for n, key in answers.items()}
    ratios = {n: ratios_of(pairs) for n, pairs in paired.items()}
    first = {n: estimates_of(trial_of(study, n)) for n in readings}
    rounds = Rounds(
        readings,
        baseline,
        directions_of(study),
        weights_of(study),
        AnswerPairs(info.same_sample, answers, ratios),
        first,
    )
    levels, limits = {n: rounds.levels(n) for n in readings}, info.limits
    levels = {n: {**found, **levelled_quality(found, paired[n], levels[baseline])} for n, found in levels.items()}
    again = [
        Candidate(
            number=n,
            params=measured[n].params,
            estimates=levels[n],
            feasible=all(v <= 0 for v in violations(limits, levels[n], levels[baseline], ratios[n]).values()),
            baseline=n == baseline,
            paired=paired[n],
            first=first[n],
        )
        for n in readings
    ]
    return again, rounds


def refuted(study: optuna.Study, confirming: int | None = None) -> dict[int, str]:
    """Trials that could not be measured again, and why; of the last confirmation if none is named."""
    last = len(study.user_attrs.get(_PLANS, [])) - 1
    trials = _complete(study, last if confirming is None else confirming)
    return {t.user_attrs[CONFIRMS]: str(t.user_attrs.get("reason", "")) for t in trials if t.user_attrs["imputed"]}


def _whole_rounds(study: optuna.Study, confirming: int, numbers: Sequence[int]) -> dict[int, list[dict[str, Estimate]]]:
    """Trial -> its figures in each round that measured all of the trials; without those that could not be measured
    again, or in fewer rounds than two.
    """
    out = refuted(study, confirming)
    cells = {
        (t.user_attrs[ROUND], t.user_attrs[CONFIRMS]): t
        for t in _complete(study, confirming)
        if t.user_attrs[CONFIRMS] not in out
    }
    left = [n for n in numbers if sum(trial == n for _, trial in cells) >= LEAST_ROUNDS]
    whole = [r for r in sorted({r for r, _ in cells}) if all((r, n) in cells for n in left)]
    if len(whole) < LEAST_ROUNDS:
        return {}
    return {n: [estimates_of(cells[r, n]) for r in whole] for n in left}


def _complete(study: optuna.Study, confirming: int) -> list[FrozenTrial]:
    return [t for t in complete(study) if t.user_attrs.get(CONFIRMING) == confirming]


def directions_of(study: optuna.Study) -> dict[str, Direction]:
    return dict(info_of(study).directions)


def weights_of(study: optuna.Study) -> dict[str, float]:
    return dict(info_of(study).scenario.weights)
