"""Confirmation: before a recommendation its candidates are measured again, in rounds together with the baseline.

The best of many noisy readings is partly the luckiest (the winner's curse), and single readings do not tell how far two
of them differ by chance. Each round measures every candidate once, in a random order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from objectives import Direction
from optimize.config.schema import LEAST_ROUNDS, Confirm
from optimize.decision.constraints import violations
from optimize.decision.recommendation import AnswerPairs, Candidate, Recommendation, Rounds, recommend, simple_forms
from optimize.decision.rounds import Figures
from optimize.decision.terms import Terms
from optimize.outcome import ROLE, Role
from optimize.study.info import info_of
from optimize.study.parsimony import reduced_trials
from optimize.study.queue import drop_queue, enqueue
from optimize.study.trial_attributes import CONFIRMING, CONFIRMS, ROUND, estimates_of
from optimize.study.trials import (
    budget_trials,
    candidates,
    complete_trials,
    levelled_quality,
    memoized,
    paired_so_far,
    ratios_of,
    trial_of,
)

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_PLANS = "confirmations"
"""User attribute of a study: for each confirmation its trials (the baseline first), the number of trials that had used
up budget before it, and the number of candidates that were asked for."""
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
    """Measures the front's best candidates and the baseline again; resumes where an earlier session stopped.

    A round belongs to one slot: the measurements that it compares ran on the same device, one after the other.

    Args:
        study: The study, its search done.
        settings: Number of candidates and rounds.
        seed: Seed of the order within each round.
        drain: Runs trials until there are no more, given a function that queues the next trial of a slot and returns
            False if there is none.
    """

    def __init__(self, study: optuna.Study, settings: Confirm, seed: int, drain: Drain) -> None:
        self._study, self._settings, self._seed, self._drain = study, settings, seed, drain
        self._slots: dict[int, int] = {}
        self._queued: set[Cell] = set()

    def run(self) -> None:
        """Measure what is missing; where no candidate keeps every constraint, go on to the next candidates."""
        if not self._settings.candidates:
            return
        drop_queue(self._study, Role.CONFIRMATION)  # leftovers of the search must not run in between
        confirming, numbers = self._plan()
        while numbers:
            self._measure_all(confirming, numbers)
            result = confirmed(self._study)
            if result is None or any(c.feasible and not c.baseline for c in result[0]):
                return
            previous = numbers
            confirming, numbers = self._plan(new=True)
            if numbers == previous:
                return

    def _plan(self, new: bool = False) -> tuple[int, list[int]]:
        """The confirmation to run, and its trials: the last one, unless the search went on to a better front.

        Without trials where nothing but the baseline could be recommended.
        """
        plans = self._study.user_attrs.get(_PLANS, [])
        current = {"after": len(budget_trials(self._study)), "candidates": self._settings.candidates}
        if new or not plans or any(plans[-1][key] != value for key, value in current.items()):
            numbers = to_confirm(self._study, self._settings.candidates)
            if len(numbers) < 2:
                return len(plans), []
            if not plans or plans[-1]["trials"] != numbers:
                plans = [*plans, {"trials": numbers}]
            plans[-1] |= current
            self._study.set_user_attr(_PLANS, plans)
        return len(plans) - 1, plans[-1]["trials"]

    def _measure_all(self, confirming: int, numbers: list[int]) -> None:
        rng = random.Random(f"{self._seed}-{confirming}")
        rounds = [
            [Cell(confirming, trial, number) for trial in rng.sample(numbers, k=len(numbers))]
            for number in range(self._settings.rounds)
        ]
        self._queued.clear()
        for _ in range(2):  # the second time, what a slot that is gone did not finish
            self._slots.clear()
            self._drain(lambda slot: self._queue_next(rounds, numbers[0], slot))

    def _queue_next(self, rounds: Sequence[Sequence[Cell]], baseline: int, slot: int) -> bool:
        """See that the next measurement of a slot's round is queued; False if there is none for it now."""
        trials = [t for t in self._study.get_trials(deepcopy=False) if t.user_attrs.get(ROLE) == Role.CONFIRMATION]
        if any(t.state.name == "WAITING" for t in trials):
            return True
        for number, cells in enumerate(rounds):
            if self._slots.get(number, slot) != slot:
                continue
            excluded = refuted(self._study, cells[0].confirming).keys()
            missing = [c for c in cells if c.trial not in excluded and self._is_missing(c, trials)]
            if any(t.state.name == "RUNNING" and cell.is_of(t) for t in trials for cell in cells):
                continue  # a round is measured one after the other, here or by another driver
            if missing and baseline not in excluded:
                self._slots[number] = slot
                self._queued.add(missing[0])
                enqueue(self._study, trial_of(self._study, missing[0].trial).params, **missing[0].attributes())
                return True
        return False

    def _is_missing(self, cell: Cell, trials: Sequence[FrozenTrial]) -> bool:
        """Whether a measurement is missing and was not queued yet: its retries are queued by whoever runs trials."""
        return cell not in self._queued and not any(t.state.name == "COMPLETE" and cell.is_of(t) for t in trials)


def to_confirm(study: optuna.Study, candidates_max: int) -> list[int]:
    """Numbers of the baseline and of the front's best trials by the figures of the search.

    The best trial has its reduced form beside it, which may exceed `candidates_max`; another gives way to its own. A
    trial that broke a constraint in most of its confirmations, or could not be measured, is left out.
    """
    front = _front(study)
    if len(front) < 2 or not candidates_max:
        return front[:1]
    baseline, *best = front
    feasible = {c.number for c in candidates(study) if c.feasible} - {baseline}
    forms = {number: form for number, form in reduced_trials(study).items() if form in feasible}
    first = dict.fromkeys([best[0], forms.get(best[0], best[0])])
    numbers = first | dict.fromkeys(forms.get(number, number) for number in best[1:])
    return [baseline, *list(numbers)[: max(candidates_max, len(first))]]


def _front(study: optuna.Study) -> list[int]:
    """Numbers of the baseline and of the front by the search's figures, best score first; empty without a baseline."""
    verdicts: dict[int, list[bool]] = {}
    for trial in complete_trials(study):
        if CONFIRMS in trial.user_attrs:
            verdicts.setdefault(trial.user_attrs[CONFIRMS], []).append(bool(trial.user_attrs.get("feasible")))
    every = candidates(study)
    eligible = [c for c in every if c.baseline or _holds(verdicts.get(c.number, []))]
    best = recommend(eligible, directions_of(study), weights_of(study))
    if best is None:
        return []
    baseline = next(c.number for c in every if c.baseline)
    return [baseline, *(c.number for c in best.front if not c.baseline)]


def _holds(verdicts: Sequence[bool]) -> bool:
    return 2 * sum(verdicts) >= len(verdicts)


def recommendation(study: optuna.Study) -> Recommendation | None:
    """The recommendation for the study's own scenario, on confirmed figures alone where there are any."""
    confirmation = confirmed(study)
    if confirmation is None:
        return first_reading(study)
    confirmed_candidates, rounds = confirmation
    simple = simple_forms(confirmed_candidates, rounds, reduced_trials(study))
    return recommend(confirmed_candidates, directions_of(study), weights_of(study), rounds, simple)


@memoized
def first_reading(study: optuna.Study) -> Recommendation | None:
    """The recommendation by the single readings of the search."""
    return recommend(candidates(study), directions_of(study), weights_of(study))


def confirmed(study: optuna.Study) -> tuple[list[Candidate], Rounds] | None:
    """Candidates with the figures of the last confirmation; None without one, or if the search has gone on since."""
    return confirmed_under(study, terms_of(study))


def confirmed_under(
    study: optuna.Study, terms: Terms, figures_of: Callable[[FrozenTrial], Figures] = estimates_of
) -> tuple[list[Candidate], Rounds] | None:
    """The same under other terms, and with other figures of the same measurements.

    Args:
        study: The study.
        terms: Objectives, weights and limits.
        figures_of: Metric -> figure of a measured trial.
    """
    plans = study.user_attrs.get(_PLANS, [])
    if not plans or plans[-1]["after"] != len(budget_trials(study)):
        return None
    baseline = plans[-1]["trials"][0]
    readings = _whole_rounds(study, len(plans) - 1, plans[-1]["trials"], figures_of)
    if baseline not in readings:
        return None
    measured = {c.number: c for c in candidates(study)}
    answers = {n: trial_of(study, n).user_attrs.get("answers_key", "") for n in readings}
    so_far = paired_so_far(study)
    paired = {n: so_far.get(key, {}) for n, key in answers.items()}
    ratios = {n: ratios_of(pairs) for n, pairs in paired.items()}
    first = {n: figures_of(trial_of(study, n)) for n in readings}
    rounds = Rounds(
        readings, baseline, terms.directions, terms.weights,
        AnswerPairs(info_of(study).same_sample, answers, ratios), first,
    )  # fmt: skip
    levels = {n: rounds.levels(n) for n in readings}
    levels = {n: {**level, **levelled_quality(level, paired[n], levels[baseline])} for n, level in levels.items()}
    confirmed_candidates = [
        Candidate(
            number=n,
            params=measured[n].params,
            estimates=levels[n],
            feasible=all(v <= 0 for v in violations(terms.limits, levels[n], levels[baseline], ratios[n]).values()),
            baseline=n == baseline,
            paired=paired[n],
            first=first[n],
            means=rounds.means(n),
            dtype=measured[n].dtype,
        )
        for n in readings
    ]
    return confirmed_candidates, rounds


def refuted(study: optuna.Study, confirming: int | None = None) -> dict[int, str]:
    """Trial -> why it could not be measured again; of the last confirmation if none is given."""
    last = len(study.user_attrs.get(_PLANS, [])) - 1
    trials = _complete(study, last if confirming is None else confirming)
    return {t.user_attrs[CONFIRMS]: str(t.user_attrs.get("reason", "")) for t in trials if t.user_attrs["imputed"]}


def _whole_rounds(
    study: optuna.Study, confirming: int, numbers: Sequence[int], figures_of: Callable[[FrozenTrial], Figures]
) -> dict[int, list[Figures]]:
    """Trial -> its figures in each round that measured all of the trials.

    Without trials that could not be measured again, or that were measured in fewer than LEAST_ROUNDS rounds.
    """
    excluded = refuted(study, confirming)
    cells = {
        (t.user_attrs[ROUND], t.user_attrs[CONFIRMS]): t
        for t in _complete(study, confirming)
        if t.user_attrs[CONFIRMS] not in excluded
    }
    eligible = [n for n in numbers if sum(trial == n for _, trial in cells) >= LEAST_ROUNDS]
    whole = [r for r in sorted({r for r, _ in cells}) if all((r, n) in cells for n in eligible)]
    if len(whole) < LEAST_ROUNDS:
        return {}
    return {n: [figures_of(cells[r, n]) for r in whole] for n in eligible}


def last_readings(study: optuna.Study) -> list[FrozenTrial]:
    """The measurements of the last confirmation; none before it."""
    return _complete(study, len(study.user_attrs.get(_PLANS, [])) - 1)


def _complete(study: optuna.Study, confirming: int) -> list[FrozenTrial]:
    return [t for t in complete_trials(study) if t.user_attrs.get(CONFIRMING) == confirming]


def directions_of(study: optuna.Study) -> dict[str, Direction]:
    return dict(info_of(study).directions)


def weights_of(study: optuna.Study) -> dict[str, float]:
    return dict(info_of(study).scenario.weights)


def terms_of(study: optuna.Study) -> Terms:
    """What the study decides by."""
    info = info_of(study)
    return Terms(dict(info.directions), dict(info.scenario.weights), tuple(info.limits))
