"""Problems that samplers are compared on, their studies, and the page made of these."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import RandomSampler

from benchmarks.searching import __main__ as command
from benchmarks.searching.live_table import LiveTable
from benchmarks.searching.measured_table import Source, TableProblem
from benchmarks.searching.page import page
from benchmarks.searching.problem import Front, Objective
from benchmarks.searching.study import run
from benchmarks.searching.synthetic import Synthetic
from objectives import Direction

SMALL = Synthetic(knobs=4, infeasible=0.3, noise=0.1)
SPEED = {"speed": Objective(Direction.MAXIMIZE, log=True)}


def test_the_share_is_that_of_the_volume_up_to_the_reference() -> None:
    front = Front(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([2.0, 2.0]))
    assert front.share(np.array([[0.0, 1.0]])) == pytest.approx(2 / 3)
    assert front.share(np.array([[2.0, 0.0]])) == 0.0


def test_all_points_of_a_synthetic_space_make_up_its_front_and_the_stated_share_fails() -> None:
    levels = [d.choices if isinstance(d, CategoricalDistribution) else range(5) for d in SMALL.space.values()]
    points = [dict(zip(SMALL.space, values, strict=True)) for values in itertools.product(*levels)]
    assert SMALL.share(points) == pytest.approx(1.0)
    readings = [SMALL.draw(p, [], np.random.default_rng(0)) for p in points]
    assert np.mean([r.values is None for r in readings]) == pytest.approx(0.3, abs=0.03)
    assert SMALL.share(p for p, r in zip(points, readings, strict=True) if r.values is None) == 0.0


def test_a_synthetic_reading_has_the_stated_noise_and_idle_knobs_change_nothing() -> None:
    rng, quiet = np.random.default_rng(0), Synthetic(knobs=4, infeasible=0.0, noise=0.0)
    logs = [math.log((SMALL.draw(SMALL.start, [], rng).values or (0.0,))[0]) for _ in range(400)]
    assert np.std(logs) == pytest.approx(0.1, rel=0.15)
    idle = {**quiet.start, "knob_02": 4}
    assert quiet.draw(idle, [], rng) == quiet.draw(quiet.start, [], rng)
    assert quiet.draw({**idle, "knob_01": 1}, [], rng) != quiet.draw({**quiet.start, "knob_01": 1}, [], rng)


def _table(noise: float) -> TableProblem:
    """Speed depends on the method and the ratio; a third of the slow method's configurations failed."""
    rng = np.random.default_rng(0)
    ratio, slow = rng.random(160), rng.random(160) < 0.5
    speed = np.exp(ratio - 2.0 * slow + noise * rng.standard_normal(160))
    speed[slow & (ratio > 0.66)] = np.nan
    table = pd.DataFrame({"method": np.where(slow, "slow", "fast"), "ratio": ratio, "speed": speed, "seconds": 1.0})
    idle = [f"idle_{i}" for i in range(8)]
    table[idle] = rng.random((160, 8))
    numbers = {name: FloatDistribution(0.0, 1.0) for name in ("ratio", *idle)}
    space = {"method": CategoricalDistribution(["fast", "slow"]), **numbers}
    start = {"method": "fast"} | dict.fromkeys(numbers, 0.0)
    return TableProblem(Source("made up", table, "seconds", "method"), space, SPEED, start)


def test_a_table_tells_what_others_measured_and_what_failed() -> None:
    problem = _table(noise=0.05)
    assert problem.fit["speed"] > 0.95 and problem.fit_within["speed"] > 0.9
    best, failing = problem.start | {"ratio": 0.99}, problem.start | {"method": "slow", "ratio": 0.9}
    assert problem.success_fit is not None and problem.success_fit > 0.95
    assert problem._chances([best, failing]) == pytest.approx([1.0, 0.0], abs=0.05)
    assert problem.share([best]) > 0.9 and problem.share([failing]) == 0.0
    rng = np.random.default_rng(0)
    assert problem.draw(failing, [], rng).violations["failed"] == 1.0
    readings = [problem.draw(best, [], rng) for _ in range(50)]
    assert np.std([math.log(r.values[0]) for r in readings if r.values]) == pytest.approx(0.06, abs=0.03)
    assert all(r.violations["speed"] <= 0 for r in readings)


def test_no_difference_is_made_of_noise() -> None:
    problem = _table(noise=3.0)
    logs = problem._logs([problem.start | {"ratio": ratio} for ratio in np.linspace(0, 1, 50)])
    assert problem.fit_within["speed"] < 0.2
    assert np.std(logs) < 1.0


def test_the_live_table_gives_its_own_readings() -> None:
    problem, rng = LiveTable(), np.random.default_rng(0)
    baseline = problem.draw(problem.start, [], rng)
    assert baseline.values is not None and all(v <= 0 for v in baseline.violations.values())
    assert 0.3 < problem.share([problem.start]) < 0.7
    slow = problem.draw({**problem.start, "beam_size": 4, "batch_size": 0}, [baseline], rng)
    assert slow.values is None and max(slow.violations.values()) > 0


def test_a_study_goes_by_the_truth_and_counts_starts_and_failures() -> None:
    steps = run(SMALL, RandomSampler(seed=0), seed=0, trials=40)
    assert len(steps) == 40 and steps[0].measured and steps[0].share == SMALL.share([SMALL.start])
    assert [s.share for s in steps] == sorted(s.share for s in steps)
    assert 0 < sum(not s.measured for s in steps) < 25
    assert steps[0].spent_s == pytest.approx(11.0, abs=0.5)


def test_studies_are_kept_and_the_page_is_made_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "searching",
        "--problems",
        "synthetic-4",
        "--samplers",
        "random",
        "--seeds",
        "2",
        "--folder",
        str(tmp_path),
    ]
    monkeypatch.setattr("sys.argv", words)
    command.main()
    first = tmp_path / "synthetic-4" / "random" / "0.json"
    steps = json.loads(first.read_text())
    first.write_text(json.dumps([step | {"share": 0.96} for step in steps]))
    command.main()
    assert json.loads(first.read_text())[0]["share"] == 0.96  # not replayed
    text = page(tmp_path)
    assert "## synthetic, 4 knobs" in text and "| random | 2 |" in text and "| 1 of 2 |" in text
