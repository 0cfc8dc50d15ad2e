"""The questions that come with the project."""

from __future__ import annotations

import json
from collections import Counter

from optimize.harness.process import TASKS

ROWS = [json.loads(line) for line in (TASKS / "everyday.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_question_has_four_options_and_stands_once() -> None:
    assert len(ROWS) == len({row["question"] for row in ROWS}) == 300
    assert all(len(set(row["options"])) == 4 and row["answer"] in range(4) for row in ROWS)


def test_no_position_is_right_more_often_than_another_in_any_category() -> None:
    places = Counter((row["category"], row["answer"]) for row in ROWS)
    assert len(places) == 5 * 4 and set(places.values()) == {15}


def test_the_length_of_an_option_does_not_tell_the_answer() -> None:
    """Without a reader's knowledge, the longest or the shortest option is right about as often as any other."""
    for pick in (min, max):
        right = [len(row["options"][row["answer"]]) == pick(map(len, row["options"])) for row in ROWS]
        alike = [sum(len(o) == pick(map(len, row["options"])) for o in row["options"]) for row in ROWS]
        expected = sum(n / 4 for n in alike)
        assert abs(sum(right) - expected) < 0.12 * len(ROWS)
