"""Candidates are measured again before one is recommended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution

from optimize.config.schema import Confirm
from optimize.decision.recommendation import Recommendation
from optimize.outcome import ROLE, Role
from optimize.study.confirmation import Confirmation, confirmed, first_reading, recommendation
from optimize.study.queue import RETRIES, requeue
from optimize.study.trial_attributes import CONFIRMS, ROUND
from optimize.study.trials import budget_trials
from tests.made import make_study
from tests.optimize.driver.test_session import runs, stored
from tests.optimize.study.confirmations import (
    FIRST,
    TRUE,
    Figures,
    confirm,
    one_by_one,
    run_trial,
    study_of,
    true_figures,
)


def _cells(study: optuna.Study) -> list[tuple[int, int]]:
    again = [t for t in study.trials if t.user_attrs.get(ROLE) == Role.CONFIRMATION]
    return [(t.user_attrs[ROUND], t.user_attrs[CONFIRMS]) for t in again]


def _result(study: optuna.Study) -> Recommendation:
    result = recommendation(study)
    assert result is not None
    return result


def test_the_fronts_best_and_the_baseline_are_measured_once_a_round() -> None:
    study = study_of()
    assert [c.number for c in first_reading(study).front] == [3, 2, 1]  # type: ignore[union-attr]
    assert confirmed(study) is None
    confirm(study, candidates=2)
    assert sorted(_cells(study)) == [(r, n) for r in range(3) for n in (0, 2, 3)]
    assert len(budget_trials(study)) == len(FIRST), "a confirmation uses up no budget of the search"


def test_a_lucky_reading_does_not_survive() -> None:
    study = study_of()
    assert _result(study).pick.number == 3
    confirm(study)
    result = _result(study)
    assert (result.pick.number, result.rounds) == (2, 3)
    assert result.pick.first["qps"].value == 12.0
    assert result.pick.estimates["qps"].value == pytest.approx(12.0, rel=0.02)
    assert result.pick.means["qps"].value == result.pick.estimates["qps"].value
    assert {c.number for c in result.considered} == {0, 1, 2, 3}


def test_a_confirmation_goes_on_where_it_was_interrupted() -> None:
    study, measured = study_of(), 0

    def until_interrupted(number: int, round_: int) -> Figures:
        nonlocal measured
        measured += 1
        if measured > 5:
            raise KeyboardInterrupt
        return true_figures(number, round_)

    with pytest.raises(KeyboardInterrupt):
        confirm(study, until_interrupted)
    (running,) = [t for t in study.trials if not t.state.is_finished()]
    study.tell(running.number, state=optuna.trial.TrialState.FAIL)
    requeue(study, running)
    assert confirmed(study) is None, "fewer than two whole rounds are no confirmation"
    confirm(study)
    complete = [t for t in study.trials if t.state.is_finished() and t.state.name == "COMPLETE"]
    cells = [(t.user_attrs[ROUND], t.user_attrs[CONFIRMS]) for t in complete if t.user_attrs[ROLE] == Role.CONFIRMATION]
    assert sorted(cells) == [(r, n) for r in range(3) for n in range(4)]
    before = len(study.trials)
    confirm(study)
    assert len(study.trials) == before, "and adds nothing when it is done"


def test_a_trial_that_fails_is_tried_as_often_as_it_is_queued_and_its_round_left_out() -> None:
    study = study_of()

    def run_next() -> None:
        waiting = next(t for t in study.trials if t.state.name == "WAITING")
        if (waiting.user_attrs[CONFIRMS], waiting.user_attrs[ROUND]) != (2, 1):
            return run_trial(study, true_figures)
        trial = study.ask({"x": IntDistribution(0, 9)})
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        if trial.user_attrs[RETRIES] < 1:
            requeue(study, trial, 1)

    Confirmation(study, Confirm(3, 3), 0, one_by_one(run_next)).run()
    assert _cells(study).count((1, 2)) == 2
    assert _result(study).rounds == 2


def test_a_candidate_that_cannot_be_measured_again_is_left_out() -> None:
    study = study_of()
    confirm(study, lambda number, round_: None if (number, round_) == (2, 1) else true_figures(number, round_))
    assert _cells(study).count((2, 2)) == 0
    result = _result(study)
    assert 2 not in {c.number for c in result.considered}
    assert (result.pick.number, result.rounds) == (1, 3)


def test_where_no_candidate_can_be_measured_again_the_defaults_stay() -> None:
    study = study_of()
    confirm(study, lambda number, round_: None if number else true_figures(number, round_))
    assert _result(study).pick.baseline


def test_without_the_baseline_there_is_no_confirmation() -> None:
    study = study_of()
    confirm(study, lambda number, round_: true_figures(number, round_) if number else None)
    assert confirmed(study) is None
    assert _result(study).rounds == 0


def test_constraints_are_judged_on_what_was_confirmed() -> None:
    latency = {"metric": "p99_latency_s", "upper": True, "value": 0.8, "relative": False}
    assert _confirmed_pick(latency) == 2
    assert _confirmed_pick(latency | {"value": 0.65}) is None
    # By far the best of all when measured again, but for the limit, which its first reading kept.
    assert _confirmed_pick(latency | {"value": 0.92}, {2: (20.0, 0.95)}) == 1
    rate = {"metric": "qps", "upper": False, "value": 1.3, "relative": True}
    assert _confirmed_pick(rate) == 1
    assert _confirmed_pick(rate, {0: (11.0, 1.0)}) is None, "1.3 times the baseline as first read, not as confirmed"


def _confirmed_pick(limit: dict[str, Any], figures: Mapping[int, Figures] | None = None) -> int | None:
    study = study_of(limits=[limit])
    confirm(study, lambda number, round_: true_figures(number, round_, {**TRUE, **(figures or {})}))
    result = recommendation(study)
    return None if result is None else result.pick.number


def test_where_no_candidate_keeps_the_constraints_the_next_of_the_front_are_confirmed() -> None:
    limit = {"metric": "p99_latency_s", "upper": True, "value": 0.8, "relative": False}
    study = study_of(limits=[limit])
    confirm(study, candidates=1, latency_max_s=0.8)
    assert {n for _, n in _cells(study)} == {0, 2, 3}, "3 breaks the limit when it is measured again"
    assert _result(study).pick.number == 2
    before = len(study.trials)
    confirm(study, candidates=1, latency_max_s=0.8)
    assert len(study.trials) == before


def test_where_nothing_of_the_front_keeps_them_the_confirmation_ends() -> None:
    limit = {"metric": "p99_latency_s", "upper": True, "value": 0.8, "relative": False}
    study = study_of(limits=[limit])
    confirm(study, lambda number, round_: (TRUE[number][0], 0.95), candidates=1, latency_max_s=0.8)
    assert {n for _, n in _cells(study)} == {0, 2, 3}
    assert recommendation(study) is None


def test_queued_trials_of_the_search_do_not_run_in_between() -> None:
    study = study_of()
    study.enqueue_trial({"x": 8}, user_attrs={ROLE: Role.SEARCH})
    confirm(study)
    assert len(budget_trials(study)) == len(FIRST)
    assert _result(study).rounds == 3


def test_a_candidate_that_keeps_failing_does_not_spoil_the_confirmation_of_the_others() -> None:
    study = study_of()

    def run_next() -> None:
        waiting = next(t for t in study.trials if t.state.name == "WAITING")
        if waiting.user_attrs[CONFIRMS] != 3:
            return run_trial(study, true_figures)
        study.tell(study.ask({"x": IntDistribution(0, 9)}), state=optuna.trial.TrialState.FAIL)

    Confirmation(study, Confirm(3, 3), 0, one_by_one(run_next)).run()
    result = _result(study)
    assert {c.number for c in result.considered} == {0, 1, 2}
    assert (result.pick.number, result.rounds) == (2, 3)


def test_a_front_that_has_changed_is_confirmed_again() -> None:
    study = study_of()
    confirm(study)
    study.enqueue_trial({"x": 9}, user_attrs={ROLE: Role.SEARCH})
    run_trial(study, lambda *_: (20.0, 0.5))
    assert confirmed(study) is None, "the best of the search is not among those confirmed"
    new = study.trials[-1].number
    confirm(study, lambda number, round_: (20.0, 0.5) if number == new else true_figures(number, round_))
    assert _result(study).pick.number == new
    assert _result(study).rounds == 3


def test_more_trials_that_change_nothing_at_the_front_need_no_new_confirmation() -> None:
    study = study_of()
    confirm(study)
    study.enqueue_trial({"x": 9}, user_attrs={ROLE: Role.SEARCH})
    run_trial(study, lambda *_: (1.0, 5.0))
    cells = _cells(study)
    confirm(study)
    assert _cells(study) == cells
    assert _result(study).rounds == 3


def test_another_number_of_candidates_is_another_confirmation() -> None:
    study = study_of()
    confirm(study, candidates=0)
    assert _cells(study) == []
    confirm(study, candidates=1)
    assert {n for _, n in _cells(study)} == {0, 3}
    confirm(study, candidates=3)
    assert {c.number for c in _result(study).considered} == {0, 1, 2, 3}


def test_further_rounds_are_added_to_earlier_ones() -> None:
    study = study_of()
    confirm(study, rounds=2)
    confirm(study, rounds=4)
    assert sorted(_cells(study)) == [(r, n) for r in range(4) for n in range(4)]
    assert _result(study).rounds == 4


def test_a_study_shows_first_reading_and_confirmed_value(
    simulated: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study([*simulated, "study.trials=3", "confirm.candidates=0"])
    assert "not confirmed" in capsys.readouterr().out
    make_study([*simulated, "study.trials=3", "confirm={candidates: 1, rounds: 2}"])
    printed = capsys.readouterr().out
    assert "confirmation:" in printed and "2 rounds of interleaved measurements" in printed
    study, out = stored(tmp_path / "out"), tmp_path / "out"
    result = _result(study)
    assert result.rounds == 2
    assert (out / "studies/smoke/report/confirmation.md").is_file()
    again = [r for r in runs(out) if r.data.tags["role"] == Role.CONFIRMATION]
    assert len(again) == 4 and {r.data.tags["confirms"] for r in again} == {"0", str(result.considered[-1].number)}
    assert len(budget_trials(study)) == 4


def test_rounds_run_side_by_side_and_each_in_one_slot() -> None:
    study, ran = study_of(), list[tuple[int, int, int]]()

    def drain(more: Callable[[int], bool]) -> None:
        while any([_in(place) for place in (0, 1) if more(place)]):
            pass

    def _in(place: int) -> bool:
        run_trial(study, true_figures)
        last = study.trials[-1].user_attrs
        ran.append((place, last[ROUND], last[CONFIRMS]))
        return True

    Confirmation(study, Confirm(3, 3), 0, drain=drain).run()
    assert sorted(_cells(study)) == sorted({(round_, trial) for _, round_, trial in ran}) and len(ran) == 12
    places = {round_: {place for place, r, _ in ran if r == round_} for round_ in range(3)}
    assert all(len(result) == 1 for result in places.values()) and set.union(*places.values()) == {0, 1}
    assert _result(study).rounds == 3


def test_other_slots_measure_what_a_lost_slot_did_not_finish() -> None:
    study, left = study_of(), iter([True, True, False])

    def drain(more: Callable[[int], bool]) -> None:
        while next(left, False) and more(1):  # place 1 is gone after two measurements
            run_trial(study, true_figures)
        while more(0):
            run_trial(study, true_figures)

    Confirmation(study, Confirm(3, 3), 0, drain=drain).run()
    assert len(_cells(study)) == 12 and _result(study).rounds == 3
