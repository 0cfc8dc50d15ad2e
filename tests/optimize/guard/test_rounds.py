"""Rounds until there is a verdict or no time, in virtual time with made-up figures."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from objectives import Direction, Estimate
from optimize.guard.change import Verdict
from optimize.guard.comparison import Comparison
from optimize.guard.rounds import RoundLoop
from optimize.guard.sequential import LEAST_ROUNDS
from optimize.guard.sides import OTHER, ROW
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.testing.scripted_load import VirtualClock

DIRECTIONS = {"qps": Direction.MAXIMIZE, "memory_bytes": Direction.MINIMIZE}


def completed_but(side: str, reason: str) -> Callable[[str, int], tuple[State, str]]:
    """Outcomes of which one side has none."""
    return lambda name, _: (State.INFEASIBLE, reason) if name == side else (State.COMPLETED, "")


class Machine:
    """Measures either side in ten seconds.

    Args:
        slower: The other side's rate as a share of the row's.
        noise: Standard deviation of the logarithm of a rate.
        outcome: Side and round -> state of its measurement, and its reason.
    """

    def __init__(
        self, slower: float = 1.0, noise: float = 0.02,
        outcome: Callable[[str, int], tuple[State, str]] = lambda side, number: (State.COMPLETED, ""),
    ) -> None:  # fmt: skip
        self.clock, self.measured = VirtualClock(), list[tuple[str, int]]()
        self._slower, self._noise, self._outcome, self._rng = slower, noise, outcome, random.Random(0)

    def measure(self, side: str, number: int) -> TrialRecord:
        self.clock.sleep(10.0)
        self.measured.append((side, number))
        state, reason = self._outcome(side, number)
        rate = 100 * (self._slower if side == OTHER else 1.0) * self._rng.lognormvariate(0, self._noise)
        record = TrialRecord("s", len(self.measured), Role.MEASUREMENT, {}, {}, {}, state=state, reason=reason)
        record.disturbed = ["a backup"] if number == 1 and side == ROW else []
        record.estimates = {
            "qps": Estimate(rate, rate, rate, 1, "1/s"),
            "memory_bytes": Estimate(1e6, 1e6, 1e6, 1, "bytes"),
        }
        return record

    def slow_at_first(self, number: int) -> tuple[State, str]:
        """The measurements of the first round take twenty seconds more each."""
        if number == 0:
            self.clock.sleep(20.0)
        return State.COMPLETED, ""

    def loop(self, minutes: float = 10.0, comparison: Comparison | None = None) -> RoundLoop:
        comparison = comparison or Comparison(DIRECTIONS, dict.fromkeys(DIRECTIONS, 0.05))
        return RoundLoop(comparison, self.measure, dict, 60 * minutes, self.clock, 0)


def test_a_slower_release_fails_as_soon_as_that_is_certain() -> None:
    machine = Machine(slower=0.8)
    loop = machine.loop()
    loop.run()
    assert loop.verdict is Verdict.FAIL and 3 <= loop.comparison.rounds < 12
    judgement = loop.comparison.judgements["qps"]
    assert judgement.ratio is not None and judgement.ratio.high < 0.95
    assert judgement.rounds == loop.comparison.rounds
    assert judgement.smallest is not None and judgement.smallest < 0.25


def test_the_same_release_passes_and_stops_there() -> None:
    loop = Machine().loop()
    loop.run()
    assert loop.verdict is Verdict.PASS and loop.comparison.rounds < 30
    assert loop.seconds == 20 * loop.comparison.rounds
    assert loop.disturbed == ["a backup"]


def test_noise_is_no_verdict_and_time_is_kept() -> None:
    machine = Machine(noise=0.5)
    loop = machine.loop(minutes=3)
    loop.run()
    assert loop.verdict is Verdict.INCONCLUSIVE and loop.seconds == 180
    assert loop.comparison.judgements["memory_bytes"].verdict is Verdict.PASS  # it needs no more rounds


def test_a_verdict_on_one_objective_stands_while_others_are_measured() -> None:
    loop = Machine(noise=0.5).loop(minutes=3)
    loop.run()
    assert loop.comparison.judgements["memory_bytes"].rounds == LEAST_ROUNDS < loop.comparison.rounds


def test_three_rounds_are_measured_however_short_the_time() -> None:
    machine = Machine(noise=0.5)
    machine.loop(minutes=0.1).run()
    assert len(machine.measured) == 2 * LEAST_ROUNDS


def test_both_sides_lead_equally_often() -> None:
    order = Machine().loop().order
    assert all(sorted(order(n)) == sorted([ROW, OTHER]) for n in range(8))
    assert all(order(2 * n) == order(2 * n + 1)[::-1] for n in range(4))
    assert len({tuple(order(2 * n)) for n in range(8)}) == 2


def test_a_release_that_cannot_serve_fails_at_once() -> None:
    machine = Machine(outcome=completed_but(OTHER, "crash: died"))
    loop = machine.loop()
    loop.run()
    assert loop.verdict is Verdict.FAIL and loop.refusal == "the other side cannot be measured: crash: died"
    assert len(machine.measured) <= 2


def test_a_row_that_cannot_be_measured_says_nothing_about_the_release() -> None:
    machine = Machine(outcome=completed_but(ROW, "device_oom"))
    loop = machine.loop()
    loop.run()
    assert loop.verdict is Verdict.INCONCLUSIVE and "the row cannot be measured" in loop.refusal


@pytest.mark.parametrize("reason", ["disturbed", "unsettled: no steady state"])
def test_a_round_without_figures_is_left_out(reason: str) -> None:
    state = State.INFEASIBLE if reason.startswith("unsettled") else State.FAILED
    machine = Machine(outcome=lambda _, number: (state, reason) if number == 1 else (State.COMPLETED, ""))
    loop = machine.loop()
    loop.run()
    assert loop.verdict is Verdict.PASS and not loop.refusal
    assert len(loop.comparison.rows) == len(loop.comparison.others)


def test_three_rounds_without_figures_in_a_row_end_it() -> None:
    machine = Machine(outcome=lambda *_: (State.FAILED, "disturbed"))
    loop = machine.loop(minutes=100)
    loop.run()
    assert loop.verdict is Verdict.INCONCLUSIVE and len(machine.measured) == 3


def test_against_stored_figures_one_side_is_measured() -> None:
    stored = {name: Estimate(v, v * 0.99, v * 1.01, 3, "") for name, v in {"qps": 100.0, "memory_bytes": 1e6}.items()}
    machine = Machine(slower=0.7)
    loop = machine.loop(comparison=Comparison(DIRECTIONS, dict.fromkeys(DIRECTIONS, 0.05), stored))
    loop.sides = [OTHER]
    loop.run()
    assert loop.verdict is Verdict.FAIL and {side for side, _ in machine.measured} == {OTHER}


def test_the_error_is_spent_in_proportion_to_the_time_and_whole_at_the_end() -> None:
    loop = Machine(noise=0.5).loop(minutes=2.1)
    expected: list[int] = []
    loop.expect = expected.append
    loop.run()
    assert loop.comparison.shares == pytest.approx([60 / 126, 80 / 126, 100 / 126, 1.0])
    assert expected == [6] * 5


def test_quicker_rounds_are_more_rounds() -> None:
    """It goes on for as long as there is time, whatever the first rounds took."""
    machine = Machine(noise=0.5, outcome=lambda side, number: machine.slow_at_first(number))
    loop = machine.loop(minutes=4)
    loop.run()
    assert loop.comparison.rounds == 10 and loop.comparison.shares[-1] == 1.0


def test_a_figure_that_is_missing_is_named() -> None:
    comparison = Comparison({"bleu": Direction.MAXIMIZE}, {"bleu": 0.05})
    loop = Machine().loop(minutes=2, comparison=comparison)
    loop.run()
    assert loop.verdict is Verdict.INCONCLUSIVE
    assert comparison.judgements["bleu"].reason == "the other side has no such figure"
