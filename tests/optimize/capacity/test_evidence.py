"""What probes show: how sure a dispersion is, what was applied, and what a search ends for."""

import numpy as np
import pytest

from optimize.capacity import Quantity, Slo, SloLimit, Unit
from optimize.capacity.evidence import dof_of
from optimize.capacity.evidence_book import Belief, EvidenceBook
from optimize.testing.simulated_engines import SimulatedQueue

TTFT = Slo((SloLimit(Quantity.TTFT, 0.5, 0.9),))
QUEUE = SimulatedQueue(8, 20.0)


def _book(unit: Unit = Unit.PER_S, asked: float = 1.0) -> EvidenceBook:
    """Probes of a minute around the capacity, asked for at so many times the levels that are applied."""
    book, prober = EvidenceBook(TTFT, unit, (1.0, 100.0)), QUEUE.prober(3)
    for level in (16.0, 18.0, 17.0):
        book.add(asked * level, prober(level, lambda requests, load_s: False, 60.0), whole=True)
    return book


def _belief(book: EvidenceBook, narrow: bool = True) -> Belief:
    belief = book.belief(narrow)
    assert belief is not None
    return belief


def test_a_dispersion_is_the_less_sure_the_shorter_the_blocks_are_beside_the_clumps() -> None:
    dof = dof_of(np.array([2.0, 20.0, 100.0, 200.0]), np.full(4, 1000.0))
    assert dof[0] == pytest.approx(9.0, rel=0.03) and dof[3] < 1.0  # blocks of 100 requests
    assert (np.diff(dof) < 0).all()


def test_the_load_is_what_has_arrived_and_not_what_was_asked_for() -> None:
    assert _belief(_book(asked=1.1)).median == pytest.approx(_belief(_book()).median, rel=0.04)
    users = [_belief(_book(Unit.USERS, asked)).median for asked in (1.0, 1.1)]
    assert users[1] == pytest.approx(1.1 * users[0], rel=0.01)  # nobody counts those who wait


def test_only_a_search_that_ends_by_a_narrow_interval_may_have_been_lucky() -> None:
    book = _book()
    (low, high), (inner_low, inner_high) = _belief(book).interval, _belief(book, narrow=False).interval
    assert low < inner_low < inner_high < high
