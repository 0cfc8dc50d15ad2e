"""When a search has found what can be shown."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from optimize.search.stopping import expected_regret
from tests.conftest import Run
from tests.optimize.driver.test_session import stored

LEVELS: dict[str, list[Any]] = {"quantization": ["fp16", "int8", "int4"], "batch_size": [1, 2, 4, 8, 16, 32]}
NOISE = 0.05


def _score(point: dict[str, Any]) -> float:
    """Best at INT8 and a batch of 8."""
    return -0.3 * abs(math.log2(point["batch_size"]) - 3) + (0.4 if point["quantization"] == "int8" else 0.0)


def _tried(points: list[dict[str, Any]], noise: float = NOISE) -> list[float | None]:
    rng = random.Random(0)
    return [_score(p) + rng.gauss(0, noise) for p in points]


GRID = [{"quantization": q, "batch_size": b} for q in LEVELS["quantization"] for b in LEVELS["batch_size"]]


def test_much_is_to_be_expected_while_the_best_is_ahead_and_little_once_it_was_found() -> None:
    ahead = [p for p in GRID if p["batch_size"] <= 2]
    gain, _ = expected_regret(ahead, _tried(ahead), LEVELS)
    everywhere, noise = expected_regret(GRID * 2, _tried(GRID * 2), LEVELS)
    assert gain > 3 * everywhere
    assert everywhere < noise
    assert noise == pytest.approx(NOISE, rel=0.6)


def test_what_is_surely_infeasible_promises_nothing() -> None:
    def scores(points: list[dict[str, Any]]) -> list[float | None]:
        return [None if p["batch_size"] > 2 else s for p, s in zip(points, _tried(points), strict=True)]

    blocked, _ = expected_regret(GRID * 2, scores(GRID * 2), LEVELS)
    unknown = [p for p in GRID * 2 if p["batch_size"] <= 2]
    open_, _ = expected_regret(unknown, _tried(unknown), LEVELS)
    assert blocked < open_ / 2


def test_without_feasible_trials_everything_is_to_be_expected() -> None:
    gain, _ = expected_regret(GRID, [None] * len(GRID), LEVELS)
    assert gain == math.inf


def test_a_search_ends_where_nothing_can_be_gained_any_more(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    narrow = ["~search_space.batch_size", "~search_space.beam_size", "+search_space.batch_size=[4,5]"]
    options = ["study.trials=60", "search.until=noise", "load.window_min_s=0.4", "sampler=random"]
    done = optimize([*simulated, *narrow, *options, "+baseline.batch_size=4"])
    assert done.returncode == 0, done.stderr
    assert "the search ends: to go on is expected to gain" in done.stdout
    assert 12 <= len(stored(tmp_path / "out").trials) < 61


def test_an_unknown_end_is_refused(optimize: Run, simulated: list[str]) -> None:
    refused = optimize([*simulated, "search.until=tomorrow"])
    assert refused.returncode == 2
    assert "search.until must be one of budget, noise, got 'tomorrow'" in refused.stderr
