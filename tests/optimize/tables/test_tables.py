"""Tables: comparisons within rounds, verdicts on claims, shares of variance, and their text."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from objectives import Estimate
from objectives.segments import Paired
from objectives.throughput import RequestRate
from optimize.config.measuring import Iterations, Load
from optimize.config.tables import Tables
from optimize.errors import ConfigError
from optimize.formatting import ratio_text
from optimize.load.arrivals import ClosedLoop, Poisson, Ramp
from optimize.load.fixed_length import by_iterations
from optimize.tables.anova import explained, shares_of
from optimize.tables.changes import change_text
from optimize.tables.comparison import Grid, Quality, grid_of, whole
from optimize.tables.folklore import FAILS, HOLDS, OPEN, folklore
from optimize.tables.render import put_into
from optimize.tables.shares import Share
from optimize.tables.spec import SPECS, Claim, Gain, Part, values_of


def _figure(value: float, unit: str = "1/s", half: float = 0.0) -> Estimate:
    return Estimate(value, value - half, value + half, 50, unit)


def _readings(table: Sequence[Sequence[float]], metric: str = "qps") -> dict[int, dict[int, dict[str, Estimate]]]:
    """Row -> round -> its figure."""
    return {n: {r: {metric: _figure(v)} for r, v in enumerate(row)} for n, row in enumerate(table)}


BATCH = Part(("batch_size",), (Claim("Larger batches lower P99", "p99_latency_s", False),))


def _grid(
    table: Sequence[Sequence[float]], part: Part = BATCH, metric: str = "p99_latency_s",
    quality: Mapping[int, Quality] | None = None,
) -> Grid:  # fmt: skip
    points = [{part.knobs[0]: 4**n} for n in range(len(table))]
    return grid_of(part, points, _readings(table, metric), quality or {}, {})


# Rounds and rows


def test_only_rounds_that_every_row_has_are_compared() -> None:
    readings = _readings([[1, 2, 3], [4, 5, 6]])
    del readings[1][1]
    result, few = whole(readings)
    assert [r["qps"].value for r in result[0]] == [1, 3] and few == set()


def test_a_row_of_one_round_is_left_out_and_not_the_others() -> None:
    readings = _readings([[1, 2, 3], [4, 5, 6]])
    readings[2] = {0: readings[0][0]}
    result, few = whole(readings)
    assert list(result) == [0, 1] and few == {2} and len(result[0]) == 3


def test_changes_are_against_the_first_row_within_the_rounds() -> None:
    grid = _grid([[1.0, 2.0, 4.0], [1.5, 3.0, 6.0]])  # the machine halves its speed from round to round
    change = grid.rows[1].changes["p99_latency_s"]
    assert (change.value, change.low, change.high) == pytest.approx((1.5, 1.5, 1.5))
    assert grid.rows[0].changes == {}
    assert change.low == change.value == change.high  # no width by rounding
    level = grid.rows[0].levels["p99_latency_s"]
    assert level.low < 1.0 < level.value < 4.0 < level.high  # where a further measurement may fall


def test_after_a_refused_first_row_the_next_is_the_reference() -> None:
    part, points = BATCH, [{"batch_size": 4**n} for n in range(3)]
    readings = _readings([[], [2.0, 2.2], [4.0, 4.4]], "p99_latency_s")
    grid = grid_of(part, points, {n: readings[n] for n in (1, 2)}, {}, {0: "refused: no kernel"})
    assert grid.rows[0].refused == "refused: no kernel"
    assert grid.rows[1].changes == {} and grid.rows[2].changes["p99_latency_s"].value == pytest.approx(2.0)


def test_a_row_of_variable_memory_does_not_widen_the_others() -> None:
    steady, wild = [10.0, 10.1, 10.0], [20.0, 90.0, 40.0]
    readings = {
        n: {r: {"m": _figure(v, "bytes")} for r, v in enumerate(x)}
        for n, x in enumerate((steady, wild, [5.0, 5.0, 5.1]))
    }
    grid = grid_of(BATCH, [{"batch_size": n} for n in range(3)], readings, {}, {})
    assert grid.rows[0].levels["m"].high < 10.6
    assert grid.rows[2].changes["m"].high < 0.55 < 1 < grid.rows[1].levels["m"].high / 20


# Claims


def _verdict(table: Sequence[Sequence[float]]) -> str:
    (message,) = folklore(_grid(table))
    return message


def test_folklore_fails_only_where_the_interval_says_so() -> None:
    assert FAILS in _verdict([[1.0, 1.02, 0.99], [2.0, 2.05, 1.98]])
    assert HOLDS in _verdict([[1.0, 1.02, 0.99], [0.5, 0.52, 0.49]])
    assert OPEN in _verdict([[1.0, 1.5, 0.8], [1.2, 0.9, 1.4]])


def test_each_row_gets_its_own_verdict() -> None:
    message = _verdict([[1.0, 1.01, 0.99], [2.0, 2.02, 1.99], [0.5, 0.505, 0.495]])
    assert FAILS + " for 4 (p99_latency_s 2.0" in message and HOLDS + " for 16 (p99_latency_s " in message


def test_a_claim_about_lower_precision_says_nothing_of_fp32() -> None:
    part, rates = SPECS["quantization"].parts[0], [[3.0, 3.1, 3.0], [1.7, 1.7, 1.6], [4.0, 4.1, 4.0]]
    points = part.points({"quantization": ["published", "fp32", "int8"]})
    (sentence,) = folklore(grid_of(part, points, _readings(rates, "qps"), {}, {}))
    assert sentence.startswith("“Lower precision serves more requests per second”: holds here for int8 (")
    assert "fp32" not in sentence


def test_a_table_of_batch_sizes_judges_the_capacity() -> None:
    spec, capacities = SPECS["batch_size"], [[10.0, 10.1, 9.9], [20.0, 20.1, 20.2]]
    part, readings = spec.parts[0], _readings(capacities, "capacity_per_s")
    grid = grid_of(part, part.points({"batch_size": [16, 64]}), readings, {}, {})
    assert folklore(grid)[0].startswith("“Larger batches raise the capacity within the SLO”: holds here for 64")
    assert list(spec.columns)[:2] == ["capacity_per_s", "capacity_users"]


def test_equal_rows_rarely_get_a_verdict() -> None:
    rng, wrong, runs = random.Random(0), 0, 300
    for _ in range(runs):
        wrong += OPEN not in _verdict([[math.exp(rng.gauss(0, 0.1)) for _ in range(3)] for _ in range(2)])
    assert wrong / runs < 0.09


def _paired(gap: float, p: float) -> Paired:
    return Paired(_figure(gap, "BLEU", 0.5), _figure(1 + gap / 60, "x", 0.01), p)


@pytest.mark.parametrize(("gap", "p", "verdict"), [(2.0, 0.001, HOLDS), (-2.0, 0.001, FAILS), (1.0, 0.2, OPEN)])
def test_paired_tests_decide_on_quality(gap: float, p: float, verdict: str) -> None:
    part = Part(("beam_size",), (Claim("More beams always improve the answers", "bleu", True, steps=True),))
    quality = {
        0: Quality({"bleu": _figure(60, "BLEU", 2)}, {}),
        1: Quality({"bleu": _figure(60 + gap, "BLEU", 2)}, {0: {"bleu": _paired(gap, p)}}),
    }
    grid = _grid([[60.0, 60.0], [61.0, 61.0]], part, "bleu", quality)
    (message,) = folklore(grid)
    assert verdict in message and f"p = {p}" in message
    assert grid.rows[0].levels["bleu"].high == 62  # of other prompts, not of other rounds


def test_own_greedy_answers_do_not_judge_other_ways_of_decoding() -> None:
    spec = SPECS["beam_size"]
    quality = {
        0: Quality({"bleu": _figure(100, "BLEU", 0)}, {}),
        1: Quality({"bleu": _figure(23, "BLEU", 8)}, {0: {"bleu": _paired(-77, 0.001)}}),
    }
    grid = _grid([[100.0, 100.0], [23.0, 23.0]], spec.parts[0], "bleu", quality)
    (against_references,) = folklore(grid)
    (against_own_answers,) = folklore(dataclasses.replace(grid, own_answers=True))
    assert FAILS in against_references
    assert FAILS not in against_own_answers and "not judged" in against_own_answers


def _interaction(more: float, noise: float, seed: int = 1) -> str:
    """INT8 costs a tenth at batch size 1, and `more` times that ratio at 16."""
    part = Part(("quantization", "batch_size"), gain=Gain("Low precision needs larger batches", "qps", True))
    points = part.points({"quantization": ["fp16", "int8"], "batch_size": [1, 16]})
    rng = random.Random(seed)
    true = [10.0, 40.0, 9.0, 36.0 * more]
    table = [[v * math.exp(rng.gauss(0, noise)) for _ in range(3)] for v in true]
    (message,) = folklore(grid_of(part, points, _readings(table), {}, {}))
    return message


@pytest.mark.parametrize(("more", "verdict"), [(1.5, HOLDS), (0.7, FAILS)])
def test_an_interaction_is_a_difference_of_differences(more: float, verdict: str) -> None:
    assert verdict in _interaction(more, 0.01)


def test_without_an_interaction_a_verdict_is_rare() -> None:
    claimed = sum(OPEN not in _interaction(1.0, 0.2, seed) for seed in range(200))
    assert claimed / 200 < 0.1


def _shares(levels: Sequence[float], noise: float = 0.02, seed: int = 2) -> dict[tuple[str, ...], Share]:
    """Of a grid of two recipes by three batch sizes, on a machine that changes its speed from round to round."""
    part = Part(("quantization", "batch_size"))
    points = part.points({"quantization": ["fp16", "int8"], "batch_size": [1, 8, 64]})
    rng, drift = random.Random(seed), [1.0, 0.5, 2.0]
    table = [[level * d * math.exp(rng.gauss(0, noise)) for d in drift] for level in levels]
    result = shares_of(grid_of(part, points, _readings(table), {}, {}), {"qps": RequestRate()})
    return {share.knobs: share for share in result}


def test_one_knob_explains_all_of_the_variance() -> None:
    result = _shares([1, 8, 64, 1, 8, 64])
    assert result["batch_size",].value > 0.99 and result["batch_size",].evident
    assert not result["quantization",].evident and not result["quantization", "batch_size"].evident


def test_an_interaction_is_evident() -> None:
    result = _shares([1, 2, 4, 1, 2, 2])
    pair = result["quantization", "batch_size"]
    assert pair.evident and pair.low <= pair.value <= pair.high
    logs = np.log(np.array([[1, 2, 4], [1, 2, 2]]))
    alone = explained(logs)
    assert pair.value == pytest.approx(float(alone[2] / alone.sum()), abs=0.03)
    assert alone.sum() == pytest.approx(float(((logs - logs.mean()) ** 2).sum()))


def test_without_effects_evident_shares_are_rare() -> None:
    evident = sum(share.evident for seed in range(60) for share in _shares([1] * 6, 0.1, seed).values())
    assert evident / 180 < 0.07


def test_a_grid_with_a_gap_has_no_shares() -> None:
    part = Part(("quantization", "batch_size"))
    points = part.points({"quantization": ["fp16", "int8"], "batch_size": [1, 8]})
    readings = _readings([[1, 1.1], [8, 8.1], [1, 1.1]])
    grid = grid_of(part, points, readings, {}, {3: "refused"})
    assert shares_of(grid, {"qps": RequestRate()}) == []


# Text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Estimate(1.12, 1.03, 1.21, 3, "x"), "+12 % (+3 to +21 %)"),
        (Estimate(0.527, 0.527, 0.527, 3, "x"), "−47.3 %"),
        (Estimate(7.4, 6.9, 8.0, 3, "x"), "7.4× (6.9–8.0)"),
        (Estimate(1.0, 1.0, 1.0, 3, "x"), "unchanged"),
    ],
)
def test_changes_in_words(change: Estimate, message: str) -> None:
    assert ratio_text(change) == message


def test_a_change_of_quality_has_its_test() -> None:
    assert change_text(None, _paired(-1.2, 0.004)) == "−1.2 (−1.7 to −0.7), p = 0.004, significant"


def test_a_section_takes_the_place_of_its_own_heading(tmp_path: Path) -> None:
    path = tmp_path / "tables.md"
    for title, text in (("A", "old"), ("B", "kept"), ("A", "new")):
        put_into(path, title, f"## {title}\n\n{text}\n")
    assert path.read_text() == "# Tables\n\n## A\n\nnew\n\n## B\n\nkept\n"


# Values


def test_values_of_a_table() -> None:
    assert values_of(SPECS["batch_size"], Tables(), {}) == {"batch_size": [16, 32, 64, 128]}
    assert set(values_of(SPECS["interactions"], Tables(), {})) == {"quantization", "batch_size", "beam_size", "workers"}


def test_an_iteration_is_one_request_of_every_user() -> None:
    load = Load(arrivals=None, iterations=Iterations(10, 50))
    closed, opened = by_iterations(load, ClosedLoop(users=4)), by_iterations(load, Poisson(rate_per_s=3))
    assert (closed.warmup_requests, closed.window_requests) == (40, 200)
    assert (opened.warmup_requests, opened.window_requests) == (10, 50)
    assert closed.window_min_s == 0 and closed.precision == {}


def test_without_iterations_a_load_stays_as_it_is() -> None:
    load = Load(arrivals=None)
    assert by_iterations(load, ClosedLoop(users=4)) is load


def test_a_profile_with_a_length_of_its_own_takes_no_iterations() -> None:
    ramp = Ramp(from_per_s=1, to_per_s=2, ramp_s=3)
    with pytest.raises(ConfigError, match="has a length of its own"):
        by_iterations(Load(arrivals=None, iterations=Iterations(10, 50)), ramp)
