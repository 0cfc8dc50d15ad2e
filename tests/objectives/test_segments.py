"""Scores compared in pairs: on common rows, with an interval and a chance that keep their word."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest, Result

from objectives import Estimate, Measurement
from objectives.quality import Bleu, ChrF, ExactMatch, Perplexity, UserMetric
from objectives.segments import Paired, levelled

WORDS = list("abcdefghijklmnop")


def _sentences(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(6, 14))) for _ in range(n)]


def _worse(texts: list[str], share: float, seed: int) -> list[str]:
    """The same with a share of the words replaced."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) if rng.random() < share else w for w in t.split()) for t in texts]


def _measured(answers: dict[int, str], references: list[str]) -> Measurement:
    return Measurement([], 0, 1, dict(enumerate(references)), answers=answers)


def _all(answers: list[str], references: list[str]) -> Measurement:
    return _measured(dict(enumerate(answers)), references)


def test_an_answer_compared_with_itself_is_no_different() -> None:
    references = _sentences(30)
    same = _all(_worse(references, 0.2, 1), references)
    for score in (Bleu(), ChrF(), ExactMatch()):
        pair = score.paired(same, same)
        assert pair is not None
        assert (pair.difference.value, pair.difference.low, pair.difference.high, pair.p) == (
            0,
            0,
            0,
            1,
        )
        assert not pair.significant


@pytest.mark.parametrize("shares", [(0.2, 0.22), (0.2, 0.3)])
def test_the_chance_is_that_of_sacrebleus_own_paired_test(shares: tuple[float, float]) -> None:
    references = _sentences(120)
    ours, theirs = (_worse(references, share, seed) for seed, share in enumerate(shares))
    pair = Bleu().paired(_all(ours, references), _all(theirs, references))
    test = PairedTest(
        [("theirs", theirs), ("ours", ours)], {"BLEU": BLEU(references=[references])}, None, "ar", n_samples=2000
    )
    _, scores = test()
    other, one = scores["BLEU"]
    assert pair is not None and isinstance(one, Result) and isinstance(other, Result)
    assert pair.p == pytest.approx(one.p_value, abs=0.04)
    assert pair.difference.value == pytest.approx(one.score - other.score)


def test_only_rows_that_both_answered_count() -> None:
    references = _sentences(40)
    answers = _worse(references, 0.2, 1)
    easy = {row: references[row] for row in range(20)}  # perfect, and on other rows than most of theirs
    pair = Bleu().paired(_measured(easy, references), _measured({r: answers[r] for r in range(15, 40)}, references))
    assert pair is not None
    assert pair.difference.n == 5
    rows = range(15, 20)
    alone = Bleu().estimate(_measured({r: answers[r] for r in rows}, references))
    assert alone is not None
    assert pair.difference.value == pytest.approx(100 - alone.value)


def test_without_common_rows_there_is_no_comparison() -> None:
    references = _sentences(4)
    assert Bleu().paired(_measured({0: "a", 1: "b"}, references), _measured({2: "a", 3: "b"}, references)) is None


def test_a_paired_comparison_is_narrower_than_two_intervals() -> None:
    """Every answer a little worse: the prompts differ far more from each other than the systems on any of them."""
    references = _sentences(100)
    ours = _worse(references, 0.25, 1)
    theirs = [" ".join([*text.split()[:-1], "zzz"]) for text in ours]
    one, other = _all(ours, references), _all(theirs, references)
    pair, single = Bleu().paired(one, other), Bleu().estimate(one)
    assert pair is not None and single is not None and pair.ratio is not None
    assert pair.significant and pair.difference.low > 0 and pair.ratio.low > 1
    assert pair.difference.high - pair.difference.low < single.high - single.low


def test_equal_systems_are_rarely_called_different() -> None:
    called, runs = 0, 120
    for seed in range(runs):
        references = _sentences(60, seed)
        one, other = (_all(_worse(references, 0.3, 2 * seed + i), references) for i in (1, 2))
        pair = ExactMatch().paired(one, other) if seed % 2 else ChrF().paired(one, other)
        called += pair is not None and pair.significant
    assert called / runs < 0.1


def test_a_comparison_survives_its_json() -> None:
    references = _sentences(10)
    pair = Bleu().paired(_all(_worse(references, 0.1, 1), references), _all(_worse(references, 0.2, 2), references))
    assert pair is not None
    assert Paired.from_dict(pair.to_dict()) == pair


# Exact match


def test_exact_match_is_a_share_with_wilsons_interval() -> None:
    references = ["a  b", "c", "D", "e"]
    measured = _all(["a b", "c ", "d", "x"], references)
    plain, lenient = ExactMatch().estimate(measured), ExactMatch(ignore_case=True).estimate(measured)
    assert plain is not None and lenient is not None
    assert (plain.value, lenient.value, plain.unit, plain.n) == (0.5, 0.75, "share", 4)
    assert 0 < plain.low < 0.5 < plain.high < 1


# A user's own function


def overlap(answer: str, reference: str) -> float:
    words = set(reference.split())
    return len(words & set(answer.split())) / len(words)


def broken(answer: str, reference: str) -> float:
    raise RuntimeError("no")


def test_a_function_of_the_users_is_averaged() -> None:
    metric = UserMetric(f"{__name__}.overlap", unit="share")
    estimate = metric.estimate(_all(["a b", "c x"], ["a b", "c d"]))
    assert estimate is not None
    assert (estimate.value, estimate.n, estimate.unit) == (0.75, 2, "share")
    assert str(metric.direction) == "maximize"
    assert str(UserMetric(f"{__name__}.overlap", minimize=True).direction) == "minimize"


@pytest.mark.parametrize(
    ("function", "message"),
    [("overlap", "cannot be imported"), ("no.such.module.f", "cannot be imported"), ("math.pi", "is no function")],
)
def test_a_name_that_is_no_function_is_refused_at_once(function: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UserMetric(function)


def test_a_function_that_fails_or_returns_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="broken fails on the answer 'a'"):
        UserMetric(f"{__name__}.broken").of("a", "b")
    with pytest.raises(ValueError, match="must be finite"):
        UserMetric(f"{__name__}.infinite").of("a", "b")


def infinite(answer: str, reference: str) -> float:
    return math.inf


# Perplexity


def _references(logprobs: dict[int, tuple[float, int]]) -> Measurement:
    return Measurement([], 0, 1, {}, reference_logprobs=logprobs)


def test_perplexity_is_over_all_tokens_not_over_rows() -> None:
    estimate = Perplexity().estimate(_references({0: (math.log(0.5) * 4, 4), 1: (math.log(0.125) * 12, 12)}))
    assert estimate is not None
    assert estimate.value == pytest.approx(math.exp(-(4 * math.log(0.5) + 12 * math.log(0.125)) / 16))
    assert estimate.low < estimate.value < estimate.high
    assert str(Perplexity.direction) == "minimize"


def test_the_ratio_of_perplexities_shows_a_small_loss_among_very_different_rows() -> None:
    rng = np.random.default_rng(0)
    first = {row: (-float(rng.gamma(3.0)) * 10, 10) for row in range(50)}
    worse = {row: (total - 0.2, tokens) for row, (total, tokens) in first.items()}  # 2 % per token
    pair = Perplexity().paired(_references(worse), _references(first))
    assert pair is not None and pair.ratio is not None
    assert pair.ratio.value == pytest.approx(math.exp(0.02))
    assert pair.significant and pair.ratio.low > 1.015


def test_perplexity_of_the_first_rows_only() -> None:
    estimate = Perplexity(rows=2).estimate(_references({0: (-1.0, 1), 1: (-1.0, 1), 2: (-9.0, 1)}))
    assert estimate is not None
    assert estimate.value == pytest.approx(math.e) and estimate.n == 2


def test_a_score_on_few_rows_is_levelled_to_all_rows() -> None:
    few, all_rows = Estimate(-1.0, -4.0, 2.0, 8, "BLEU"), Estimate(74.0, 70.0, 78.0, 300, "BLEU")
    estimate = levelled(few, all_rows)
    assert estimate == Estimate(73.0, 68.0, 78.0, 8, "BLEU")


def test_the_noise_floor_is_the_mean_of_all_repeats_with_an_interval_over_prompts() -> None:
    references = _sentences(80)
    repeats = [_all(_worse(references, 0.02, seed), references) for seed in range(4)]
    single = [Bleu().estimate(repeat) for repeat in repeats]
    floor = Bleu().floor(repeats)
    assert floor is not None and floor.n == 80 and floor.low < floor.value < floor.high
    values = [e.value for e in single if e is not None]
    assert min(values) < floor.value < max(values)
    widths = [e.high - e.low for e in single if e is not None]
    assert floor.high - floor.low < min(widths)  # four looks at each prompt
    assert ExactMatch().floor(repeats[:1]) == ExactMatch().estimate(repeats[0])


def test_a_score_is_compared_with_all_repeats_at_once() -> None:
    references = _sentences(120)
    repeats = [_all(_worse(references, 0.02, seed), references) for seed in range(4)]
    worse, equal = (Bleu().paired(_all(_worse(references, s, 9), references), *repeats) for s in (0.08, 0.02))
    assert worse is not None and worse.significant and worse.difference.high < 0
    assert equal is not None and not equal.significant


@pytest.mark.parametrize(
    ("difference", "tolerance", "judged"), [(-0.8, 1.0, 1.0), (-1.2, 1.0, 0.98), (-0.8, 0.0, 0.98)]
)
def test_a_difference_within_the_tolerance_counts_as_none(difference: float, tolerance: float, judged: float) -> None:
    ratio = Estimate(0.98, 0.97, 0.99, 50, "x")
    pair = Paired(Estimate(difference, difference - 0.1, difference + 0.1, 50, "BLEU"), ratio, 0.01, tolerance)
    assert pair.judged is not None and pair.judged.value == judged
    assert pair.significant == (judged < 1) and pair.judged.low <= judged <= pair.judged.high
    assert Paired.from_dict(pair.to_dict()) == pair


def test_a_comparison_of_an_earlier_version_has_no_tolerance() -> None:
    pair = Paired(Estimate(-1.0, -2.0, 0.0, 50, "BLEU"), None, 0.2)
    raw = pair.to_dict()
    del raw["tolerance"]
    assert Paired.from_dict(raw) == pair and not pair.is_noise
