"""Verdicts on candidates that are equal, slower, failing or different."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from optimize.canary.blocks import Blocks
from optimize.canary.judge import Judge, Limits, Verdict
from optimize.canary.pair import Pair, agreement

LIMITS = Limits(margin=0.1, failures_max=0.01, agreement_min=0.5, alpha=0.05, block_s=5.0)


def pairs(
    slower: float = 1.0, failing: float = 0.0, same: float = 1.0, seed: int = 0, streamed: bool = True
) -> Iterator[Pair]:
    """A pair a second, whose ratios vary by a third from one to the next."""
    generator = np.random.default_rng(seed)
    for second in itertools.count():
        if generator.random() < failing:
            yield Pair(second, 1.0, failed=True)
        latency, first = (float(slower * np.exp(generator.normal(0, 0.3))) for _ in range(2))
        yield Pair(second, 1.0, False, latency, first if streamed else None, same, 1.0)


def alike(count: int, **values: float) -> list[Pair]:
    return [Pair(second, 1.0, **values) for second in range(count)]  # type: ignore[arg-type]


def verdict_on(stream: Iterator[Pair], limits: Limits = LIMITS, most: int = 1500) -> tuple[Judge, Verdict | None]:
    """The verdict of a judge who looks after every 20 pairs."""
    judge = Judge(limits)
    for _ in range(most // 20):
        verdict = judge.add(next(stream) for _ in range(20))
        if verdict is not None:
            return judge, verdict
    return judge, None


def test_pairs_that_depend_on_their_neighbours_mislead_nobody() -> None:
    """Equal candidates whose pairs resemble the one before; by single pairs, the one of seed 6 is rolled back."""
    verdicts = []
    for seed in range(5, 8):
        generator, drift, pairs_ = np.random.default_rng(seed), 0.0, list[Pair]()
        for second in range(600):
            drift = 0.9 * drift + generator.normal(0, 0.17)
            ratio = float(np.exp(drift))
            pairs_.append(Pair(second / 4, 2.0, latency=ratio, first_token=ratio))
        verdicts += [verdict_on(iter(pairs_), most=600)[1]]
    assert [v for v in verdicts if v is not None and not v.promote] == []


def test_a_block_is_four_answers_long_or_the_least_that_is_asked_for() -> None:
    short, long = Blocks(5.0), Blocks(5.0)
    assert [short.add(float(s), 1.0, float(s)) for s in range(6)] == [None] * 5 + [2.0]
    assert [long.add(float(s), 2.0, float(s)) for s in range(9)] == [None] * 8 + [3.5]


def test_an_equal_candidate_is_promoted() -> None:
    judge, verdict = verdict_on(pairs())
    assert verdict is not None and verdict.promote
    assert judge.pairs < 700
    assert f"{judge.pairs} of {judge.pairs} greedy answers the same" in verdict.reason


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (lambda: pairs(slower=1.4), "ratio 1."),
        (lambda: pairs(failing=0.08), "failed share 0."),
        (lambda: pairs(same=0.2), "agreement 0.2"),
    ],
    ids=["slower", "failing", "different"],
)
def test_a_worse_candidate_is_rolled_back_for_the_border_that_it_breaks(
    stream: Callable[[], Iterator[Pair]], why: str
) -> None:
    judge, verdict = verdict_on(stream())
    assert verdict is not None and not verdict.promote
    assert why in verdict.reason
    assert judge.pairs < 300


def test_a_candidate_that_fails_at_once_is_rolled_back_after_a_few_requests() -> None:
    judge = Judge(LIMITS)
    assert judge.add(alike(1, failed=True)) is None
    verdict = judge.add(alike(2, failed=True))
    assert verdict is not None and not verdict.promote


def test_a_slower_first_token_alone_rolls_back() -> None:
    verdict = Judge(LIMITS).add(alike(80, latency=1.0, first_token=2.5))
    assert verdict is not None and verdict.reason.startswith("first token ratio 2.5")


def test_requests_that_are_neither_streamed_nor_greedy_are_judged_by_times_and_failures() -> None:
    plain = (dataclasses.replace(p, agreement=None) for p in pairs(streamed=False))
    _, verdict = verdict_on(plain)
    assert verdict is not None and verdict.promote
    assert "first token ratio not compared; agreement not compared" in verdict.reason
    assert "answers compared by length alone, as none was greedy" in verdict.reason


def test_answers_are_not_judged_where_no_agreement_is_asked_for() -> None:
    limits = dataclasses.replace(LIMITS, agreement_min=None)
    _, verdict = verdict_on(pairs(same=0.0), limits)
    assert verdict is not None and verdict.promote and "agreement" not in verdict.reason


def test_few_greedy_answers_leave_the_verdict_open_and_are_named() -> None:
    judge = Judge(LIMITS)
    assert judge.add([*alike(1, latency=1.0, agreement=0.6), *alike(900, latency=1.0)]) is None
    assert judge.undecided().startswith("agreement 0.6 [")


def test_one_outlier_of_any_size_decides_nothing() -> None:
    judge = Judge(LIMITS)
    assert judge.add(alike(5, latency=1e9, first_token=1e9)) is None
    assert judge.add([Pair(5.0, 1.0, latency=1.0)]) is None
    assert judge.estimates()["latency_ratio"].value == pytest.approx(3.0)


def test_equal_candidates_are_seldom_rolled_back() -> None:
    """Rolled back wrongly with a probability of at most alpha: here 0.3, over 12 canaries of 60 pairs each."""
    limits = Limits(margin=0.05, failures_max=0.2, agreement_min=0.8, alpha=0.3, block_s=2.0)
    verdicts = [verdict_on(pairs(slower=1.05, failing=0.2, same=0.8, seed=n), limits, most=60)[1] for n in range(12)]
    assert sum(v is not None for v in verdicts) <= 7  # of 12 with probability 0.3 each, above 99 %


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        (["a b c d"], ["a b c d"], 1.0),
        (["a b c d"], ["a b x d"], 0.5),
        (["a b"], ["a b c d"], 0.5),
        (["a", "b"], ["a", "x"], 0.5),
        ([""], ["a"], 0.0),
        (["a"], ["a", "b"], 0.0),
        ([], [], 1.0),
    ],
)
def test_agreement_is_the_share_up_to_the_first_different_word(one: list[str], other: list[str], share: float) -> None:
    assert agreement(one, other) == share
