"""How many answers a request may ask for, and all of them together."""

from __future__ import annotations

import pytest

from optimize.serve.answer_limit import AnswerLimit
from optimize.serve.exchange import Counts
from optimize.serve.responses import Refused


def limit(most: int = 8, total: int = 12) -> AnswerLimit:
    return AnswerLimit(most, total, Counts())


@pytest.mark.parametrize(
    ("each", "prompts", "message", "param"),
    [
        (100_000, 1, "n=100000 exceeds the 8 answers allowed in a request (serve.answers_max): request fewer", "n"),
        (3, 3, "n=3 for each of 3 prompts exceeds the 8 answers allowed in a request", "n"),
        (1, 9, "n=1 for each of 9 prompts exceeds the 8 answers allowed in a request", "prompt"),
    ],
)
def test_too_many_answers_are_refused_with_the_limit_in_words(
    each: int, prompts: int, message: str, param: str
) -> None:
    with pytest.raises(Refused) as refused, limit().place(each, prompts):
        pass
    assert (refused.value.status, refused.value.param) == (400, param)
    assert message in refused.value.message and "\n" not in refused.value.message


def test_answers_in_flight_count_against_the_total_and_single_ones_do_not() -> None:
    counts = Counts()
    answers = AnswerLimit(8, 12, counts)
    with answers.place(4, 2), answers.place(1, 1), answers.place(4, 1):
        with pytest.raises(Refused, match="12 answers of other requests are under way") as refused, answers.place(2, 1):
            pass
        assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
        with answers.place(1, 1):
            pass
    assert counts.refused_answers == 1
    with answers.place(8, 1):
        pass


def test_a_place_is_free_again_after_a_failure() -> None:
    answers = limit()
    for _ in range(5):
        with pytest.raises(ConnectionResetError), answers.place(8, 1):
            raise ConnectionResetError
    assert answers._in_flight == 0
