"""Rounds, each with one measurement of either side in a random order, until there is a verdict or no time."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from optimize.errors import FailureKind
from optimize.guard.change import Change, Verdict
from optimize.guard.comparison import Comparison, Figures
from optimize.guard.sequential import LEAST_ROUNDS, MOST_ROUNDS
from optimize.guard.sides import OTHER, ROW
from optimize.ledger import TrialRecord
from optimize.load.clock import Clock
from optimize.outcome import State

_LOST_MAX = 3
"""Rounds without figures, in a row, after which no more are tried."""


@dataclass
class RoundLoop:
    """Measures rounds.

    Attributes:
        comparison: Takes the figures, and judges them.
        measure: Measures a side, by name, in a round; the record says what came of it.
        answers: How the answers so far compare.
        limit_s: Time for all rounds.
        clock: Measures it.
        seed: Seed of the order within rounds.
        expect: Called after each round with the number of rounds that the time will allow.
        sides: Names of the sides that are measured.
        refusal: Why a side cannot be measured at all; empty while both can.
        refused: The verdict that follows from that.
        seconds: How long the rounds so far took.
        disturbed: What disturbed the machine in each round that something did disturb, in words.
    """

    comparison: Comparison
    measure: Callable[[str, int], TrialRecord]
    answers: Callable[[], Mapping[str, Change]]
    limit_s: float
    clock: Clock
    seed: int
    sides: Sequence[str] = (ROW, OTHER)
    expect: Callable[[int], None] = lambda _: None
    refusal: str = field(default="", init=False)
    refused: Verdict | None = field(default=None, init=False)
    seconds: float = field(default=0.0, init=False)
    disturbed: list[str] = field(default_factory=list, init=False)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the release."""
        return self.comparison.verdict if self.refused is None else self.refused

    def run(self) -> None:
        """Measure until something is decided, or the time is up."""
        began, lost, tried = self.clock.now(), 0, 0
        while self.verdict is Verdict.INCONCLUSIVE and self.refused is None and lost < _LOST_MAX:
            round_began = self.clock.now()
            figures = self._round(tried)
            took_s, self.seconds = self.clock.now() - round_began, self.clock.now() - began
            tried, lost = tried + 1, 0 if figures else lost + 1
            is_over = self._is_over(took_s, bool(figures))
            if figures:
                self._take(figures, is_over)
            if is_over:
                return
            self.expect(self.comparison.rounds + int((self.limit_s - self.seconds) / max(took_s, 1e-9)))

    def _take(self, figures: Mapping[str, Figures], last: bool) -> None:
        comparison = self.comparison
        comparison.others.append(figures[OTHER])
        if ROW in figures:
            comparison.rows.append(figures[ROW])
        if comparison.rounds >= LEAST_ROUNDS:
            comparison.look(self.answers(), 1.0 if last else min(1.0, self.seconds / self.limit_s))

    def _is_over(self, took_s: float, measured: bool) -> bool:
        """Whether no further round would end in time, after one that took so long."""
        rounds = self.comparison.rounds + measured
        in_time = self.seconds + took_s <= self.limit_s
        return rounds >= LEAST_ROUNDS and (rounds >= MOST_ROUNDS or not in_time)

    def _round(self, number: int) -> dict[str, Figures]:
        """Name of a side -> its figures; empty where one has none."""
        figures: dict[str, Figures] = {}
        disturbances: list[str] = []
        for side in self.order(number):
            record = self.measure(side, number)
            if record.state is State.INFEASIBLE and not record.reason.startswith(FailureKind.UNSETTLED):
                self._refuse(side, record.reason)
            if record.state is not State.COMPLETED:
                return {}
            figures[side] = record.estimates
            disturbances += record.disturbed
        self.disturbed += ["; ".join(disturbances)] if disturbances else []
        return figures

    def order(self, number: int) -> list[str]:
        """The sides in the order of a round: drawn, and turned in the next round, so that both lead as often."""
        drawn = random.Random(f"{self.seed}-{number // 2}").sample(list(self.sides), k=len(self.sides))
        return drawn[::-1] if number % 2 else drawn

    def _refuse(self, side: str, reason: str) -> None:
        self.refusal = f"the {side} cannot be measured: {reason}"
        self.refused = Verdict.FAIL if side == OTHER else Verdict.INCONCLUSIVE
