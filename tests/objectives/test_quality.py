"""Quality is scored on the answers the load test received."""

import math
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from objectives import Measurement, RequestRecord
from objectives.quality import Bleu, ChrF, ExactMatch, FirstDifference, scored_rows

SENTENCES = [f"the {a} {n} sees the {b} house" for a in ("old", "red") for n in ("man", "dog") for b in ("big", "new")]


def _record(row: int, text: str, due_s: float = 10.0, error: str | None = None) -> RequestRecord:
    return RequestRecord(row, due_s, due_s, None, due_s + 1, 5, 5, text, error)


def _measured(answers: list[str], references: list[str]) -> Measurement:
    records = [_record(row, text) for row, text in enumerate(answers)]
    return Measurement(records, 10.0, 20.0, dict(enumerate(references)))


def test_each_row_counts_once_with_its_first_answer_in_row_order() -> None:
    records = [
        _record(2, " c \n", due_s=1.0),  # warm-up: its text counts
        _record(0, "a", error="timeout"),
        _record(0, "b"),
        _record(2, "later"),
        _record(7, "no reference"),
        _record(1, "cut off", error="server"),
    ]
    references = {0: "r0", 1: "r1", 2: "r2"}
    assert scored_rows(Measurement(records, 10.0, 20.0, references)) == {0: ("b", "r0"), 2: ("c", "r2")}


@pytest.mark.parametrize("objective", [Bleu(), ChrF()])
def test_perfect_answers_score_a_hundred(objective: Bleu | ChrF) -> None:
    estimate = objective.estimate(_measured(SENTENCES, SENTENCES))
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((100.0, 100.0, 100.0))
    assert estimate.n == len(SENTENCES)


@pytest.mark.parametrize("objective", [Bleu(), ChrF()])
def test_n_grams_of_an_answer_are_counted_once_however_often_it_comes(objective: Bleu | ChrF) -> None:
    metric, counted = objective.metric(), list[str]()

    def count(answers: list[str], references: list[list[str]]) -> object:
        counted.extend(answers)
        return type(metric)._extract_corpus_statistics(metric, answers, references)

    with patch.object(type(objective), "metric", lambda _: SimpleNamespace(_extract_corpus_statistics=count)):
        first = objective.statistics(_measured(["a b", "a b", "c d"], ["a b", "a b", "c e"]))
        second = objective.statistics(_measured(["c d", "a b", "new"], ["c e", "a x", "new"]))
    assert counted == ["a b", "c d", "a b", "new"]  # of another reference, it is counted anew
    assert (first[0] == first[1]).all() and (second[0] == first[2]).all() and (second[1] != first[0]).any()


@pytest.mark.parametrize("objective", [Bleu(), ChrF()])
@pytest.mark.parametrize("answer", ["", "qqq xxx"])
def test_answers_with_nothing_in_common_score_zero(objective: Bleu | ChrF, answer: str) -> None:
    estimate = objective.estimate(_measured([answer] * 8, SENTENCES))
    assert estimate is not None
    assert (estimate.value, estimate.low) == pytest.approx((0.0, 0.0), abs=0.5)


def test_bleu_of_answers_one_word_short_is_the_brevity_penalty() -> None:
    # All n-gram precisions are 1, answers have 5 words of 6: exp(1 - 6/5) (Papineni et al., 2002, 2.3).
    estimate = Bleu().estimate(_measured(["a b c d e"] * 4, ["a b c d e f"] * 4))
    assert estimate is not None
    assert estimate.value == pytest.approx(100 * math.exp(-0.2))


@pytest.mark.parametrize("objective", [Bleu(), ChrF()])
def test_interval_surrounds_the_score_is_repeatable_and_stays_on_the_scale(objective: Bleu | ChrF) -> None:
    measured = _measured(["nothing of it", *SENTENCES[1:]], SENTENCES)
    estimate = objective.estimate(measured)
    assert estimate is not None
    assert 0 <= estimate.low < estimate.value < estimate.high
    assert estimate.high <= 100.0
    assert objective.estimate(measured) == estimate


@pytest.mark.parametrize("objective", [Bleu(), ChrF()])
def test_one_answer_is_no_corpus(objective: Bleu | ChrF) -> None:
    assert objective.estimate(_measured(SENTENCES[:1], SENTENCES[:1])) is None


@pytest.mark.parametrize("objective", [Bleu(), ChrF()])
def test_few_answers_of_which_one_is_empty_still_have_a_score(objective: Bleu | ChrF) -> None:
    # Some of the resamples then hold nothing but empty answers.
    estimate = objective.estimate(_measured(["", *SENTENCES[1:3]], SENTENCES[:3]))
    assert estimate is not None
    assert 0 < estimate.value < 100


@pytest.mark.parametrize(
    ("answer", "reference", "share"),
    [
        ("the old dog", "the old dog", 1.0), ("the old man", "the old dog", 8 / 11), ("a dog", "the dog", 0.0),
        ("the old", "the old dog", 7 / 11), ("the old dog barks", "the old dog", 11 / 17), ("", "", 1.0),
    ],
)  # fmt: skip
def test_the_first_difference_is_where_two_answers_part(answer: str, reference: str, share: float) -> None:
    assert FirstDifference().of(answer, reference) == pytest.approx(share)


def test_the_first_difference_says_how_late_it_comes_where_exact_match_does_not() -> None:
    late, early = ([f"{a} {s} {b}" for s in SENTENCES] for a, b in (("so", "maybe"), ("perhaps", "now")))
    references = [f"so {s} now" for s in SENTENCES]
    figures = [
        metric.estimate(_measured(answers, references))
        for metric in (ExactMatch(), FirstDifference())
        for answers in (early, late)
    ]
    same_early, same_late, share_early, share_late = [e.value for e in figures if e is not None]
    assert same_early == same_late == 0.0
    assert share_early == 0.0 and share_late > 0.8
