"""Decisions many times over: the same as one by one, and as often the same as chance would have it."""

from __future__ import annotations

import math
import random

import pytest
from scipy.special import ndtr

from objectives import Direction, Estimate
from objectives.segments import Paired
from optimize.decision.block_design import BlockDesign
from optimize.decision.candidate import Candidate
from optimize.decision.constraints import Limit, violations
from optimize.decision.flips import Step, over_limit, over_weight
from optimize.decision.recommendation import SingleReadings, recommend
from optimize.decision.stability import Noise, stability
from optimize.decision.standings import Standings
from optimize.decision.terms import Terms

DIRECTIONS = {"qps": Direction.MAXIMIZE, "latency": Direction.MINIMIZE, "bleu": Direction.MAXIMIZE}
WEIGHTS = {"qps": 1.0, "latency": 2.0, "bleu": 0.5}


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value, 10, "")


def _candidate(number: int, *values: float, ratio: float | None = None) -> Candidate:
    estimates = {name: _exact(value) for name, value in zip(DIRECTIONS, values, strict=True)}
    paired = {"bleu": Paired(_exact(0.0), _exact(ratio), 1.0)} if ratio is not None else {}
    return Candidate(number, {}, estimates, True, number == 0, paired)


def _several(seed: int) -> list[Candidate]:
    rng = random.Random(seed)
    values = [[rng.lognormvariate(0, 0.4) for _ in DIRECTIONS] for _ in range(7)]
    return [_candidate(n, *row, ratio=rng.uniform(0.8, 1.2) if n % 2 else None) for n, row in enumerate(values)]


def _limits(rng: random.Random) -> list[Limit]:
    absolute = Limit("latency", True, rng.lognormvariate(0, 0.4), False)
    return [
        absolute,
        Limit("bleu", False, rng.uniform(0.6, 1.1), True),
        Limit("qps", False, rng.uniform(0.3, 1), False),
    ]


SIMPLE = {1: 2, 3: 3, 5: 4}


def _pick(candidates: list[Candidate], terms: Terms) -> int | None:
    """The decision as a study makes it."""
    baseline = candidates[0].estimates
    judged = [
        Candidate(c.number, {}, c.estimates, _keeps(c, terms, baseline), c.baseline, c.paired) for c in candidates
    ]
    best = recommend(judged, terms.directions, terms.weights, simple=SIMPLE)
    return None if best is None else best.pick.number


def _keeps(c: Candidate, terms: Terms, baseline: object) -> bool:
    return all(v <= 0 for v in violations(terms.limits, c.estimates, baseline, c.ratios).values())  # type: ignore[arg-type]


def test_scores_are_those_of_a_recommendation() -> None:
    candidates = _several(1)
    evidence = SingleReadings(candidates[0], DIRECTIONS, WEIGHTS)
    scores = Standings(candidates, Terms(DIRECTIONS, WEIGHTS, [])).scores({})[0]
    assert [math.exp(s) for s in scores] == pytest.approx([evidence.score(c).value for c in candidates])


def _at(steps: list[Step], value: float) -> int | None:
    return next(step.pick for step in steps if step.holds(value))


def test_the_picks_over_a_limit_and_over_a_weight_are_those_of_single_decisions() -> None:
    rng, different = random.Random(0), set()
    for seed in range(60):
        candidates, limits = _several(seed), _limits(rng)
        terms = Terms(DIRECTIONS, WEIGHTS, limits)
        for row, limit in enumerate(limits):
            steps = over_limit(Standings(candidates, terms, SIMPLE), limit)
            for value in (rng.lognormvariate(0, 0.5) for _ in range(4)):
                moved = [*limits[:row], Limit(limit.metric, limit.upper, value, limit.relative), *limits[row + 1 :]]
                assert _at(steps, value) == _pick(candidates, Terms(DIRECTIONS, WEIGHTS, moved))
                different.add((seed, _at(steps, value)))
        for name in DIRECTIONS:
            steps = over_weight(Standings(candidates, terms, SIMPLE), name)
            for value in (rng.lognormvariate(0, 1.5) for _ in range(4)):
                assert _at(steps, value) == _pick(candidates, Terms(DIRECTIONS, {**WEIGHTS, name: value}, limits))
    assert len(different) > 120  # picks differ, and some of them are none


def test_a_simple_form_takes_the_place_of_a_better_one_where_it_keeps_every_limit() -> None:
    candidates = [_candidate(0, 1, 1, 1), _candidate(1, 1.3, 1, 1), _candidate(2, 1.2, 1.1, 1)]
    noise = Noise({"latency": (0.0, 0.01)}, {0: 3, 1: 3, 2: 3}, 3, (1e6, 1e6))
    limit = Limit("latency", True, 1.1, False)
    drawn = stability(Standings(candidates, Terms(DIRECTIONS, {"qps": 1.0}, [limit]), {1: 2}), noise)
    kept = drawn.keeps[2][limit.name]
    assert kept == pytest.approx(0.5, abs=0.03) and drawn.picks[2] == pytest.approx(kept)
    assert drawn.picks[1] == pytest.approx(0.5 * drawn.keeps[1][limit.name], abs=0.03)


def test_a_candidate_without_a_figure_is_never_picked() -> None:
    candidates = [_candidate(0, 1, 1, 1), Candidate(1, {}, {"qps": _exact(9.0), "latency": _exact(0.1)}, True)]
    terms = Terms(DIRECTIONS, WEIGHTS, [Limit("bleu", False, 0.5, False)])
    assert [s.pick for s in over_weight(Standings(candidates, terms), "qps")] == [0]
    assert stability(Standings(candidates, terms), Noise({}, {0: 1, 1: 1}, 3, (30, 30))).picks == {0: 1.0}


@pytest.mark.parametrize(
    ("shared", "own", "rounds", "fresh"), [(0.0, 0.01, 3, 3), (0.2, 0.01, 2, 4), (0.0, 0.04, 5, 3)]
)
def test_the_probability_of_a_pick_is_that_of_the_difference(
    shared: float, own: float, rounds: int, fresh: int
) -> None:
    """What a round has in common moves both alike, and decides nothing between them."""
    difference = 0.1
    candidates = [_candidate(0, 1, 1, 1), _candidate(1, math.exp(difference), 1, 1)]
    noise = Noise({"qps": (shared, own)}, {0: rounds, 1: rounds}, fresh, (1e6, 1e6))
    drawn = stability(Standings(candidates, Terms(DIRECTIONS, {"qps": 1.0}, [])), noise, draws=20_000)
    expected = float(ndtr(difference / math.sqrt(2 * own * (1 / rounds + 1 / fresh))))
    assert drawn.picks[1] == pytest.approx(expected, abs=0.01)


def test_a_limit_is_kept_as_often_as_both_components_have_it() -> None:
    candidates = [_candidate(0, 1, 1.0, 1), _candidate(1, 1, 0.9, 1)]
    terms = Terms(DIRECTIONS, WEIGHTS, [Limit("latency", True, 1.0, False), Limit("latency", True, 0.95, True)])
    noise = Noise({"latency": (0.02, 0.01)}, {0: 3, 1: 3}, 3, (1e6, 1e6))
    drawn = stability(Standings(candidates, terms), noise, draws=20_000)
    absolute, relative = math.log(1 / 0.9), math.log(0.95 / 0.9)
    assert drawn.keeps[1]["latency <= 1"] == pytest.approx(float(ndtr(absolute / math.sqrt(0.03 * 2 / 3))), abs=0.01)
    expected = float(ndtr(relative / math.sqrt(2 * 0.01 * 2 / 3)))
    assert drawn.keeps[1]["latency <= 0.95 x baseline"] == pytest.approx(expected, abs=0.01)
    assert drawn.none + sum(drawn.picks.values()) == pytest.approx(1.0)


def test_a_reading_of_the_search_is_less_sure_than_rounds() -> None:
    candidates = [_candidate(0, 1, 1, 1), _candidate(1, 1.2, 1, 1)]
    terms = Terms(DIRECTIONS, {"qps": 1.0}, [])
    noise = Noise({"qps": (0.02, 0.01)}, {0: 3, 1: 1}, 3, (1e6, 1e6))
    single = stability(Standings(candidates, terms), noise).picks[1]
    rounds = stability(Standings(candidates, terms), Noise(noise.components, {0: 3, 1: 3}, 3, noise.dof)).picks[1]
    assert rounds > single + 0.05


def test_components_are_what_rounds_share_and_what_each_measurement_has_for_itself() -> None:
    rng = random.Random(5)
    import numpy as np

    common = np.array([rng.gauss(0, 0.3) for _ in range(400)])
    y = np.array([[c + rng.gauss(0, 0.1) for c in common] for _ in range(4)])
    shared, own = BlockDesign(y, np.zeros(4), np.zeros(4)).components()
    assert shared == pytest.approx(0.09, rel=0.15) and own == pytest.approx(0.01, rel=0.15)
    assert BlockDesign(y, np.full(4, 0.5), np.zeros(4)).components()[1] == 0.5
