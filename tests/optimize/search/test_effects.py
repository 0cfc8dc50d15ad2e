"""Effects of knobs: their sizes and intervals on figures of which the effects are known."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from optimize.search.effects import Change, Effects, Size

SPACE: dict[str, BaseDistribution] = {
    "quantization": CategoricalDistribution(["fp16", "int8", "int4"]),
    "batch_size": IntDistribution(1, 256, log=True),
    "workers": CategoricalDistribution([1, 2]),
}
WORTH = {"fp16": 0.0, "int8": 0.4, "int4": -0.3}
INT8 = Change({"quantization": "int8"}, {"quantization": "fp16"})
WORKERS = Change({"workers": 2}, {"workers": 1})
BOTH = Change({"quantization": "int8", "workers": 2}, {"quantization": "fp16", "workers": 1})


def _points(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Scattered, but two thirds of them with INT8, as where a search has found what is good."""
    rng = random.Random(seed)
    return [
        {
            "quantization": rng.choice(["fp16", "int8", "int4"] if i % 2 == 0 else ["int8"]),
            "batch_size": round(math.exp(rng.uniform(0, math.log(256)))),
            "workers": rng.choice([1, 2]),
        }
        for i in range(n)
    ]


@functools.cache
def _effects(n: int = 24, noise: float = 0.03, together: float = 0.0, seed: int = 0) -> Effects:
    rng = np.random.default_rng(seed)

    def value(p: Mapping[str, Any]) -> float:
        pair = together if p["quantization"] == "int8" and p["workers"] == 2 else 0.0
        return WORTH[p["quantization"]] + 0.1 * math.log2(p["batch_size"]) + pair + noise * float(rng.standard_normal())

    points = _points(n, seed)
    return Effects(SPACE, points, np.array([value(p) for p in points]), {})


def _covers(size: Size, truth: float) -> bool:
    return size.low <= truth <= size.high


def test_effects_are_told_with_intervals_that_hold_the_truth() -> None:
    effects = _effects()
    assert _covers(effects.of(INT8), 0.4) and effects.of(INT8).low > 0.2
    assert _covers(effects.of(Change({"batch_size": 1}, {"batch_size": 256})), -0.8)
    workers = effects.of(WORKERS)
    assert _covers(workers, 0.0) and workers.high - workers.low < 0.2


def test_what_two_changes_add_to_each_other_is_told_apart_from_what_each_does() -> None:
    pair, none = _effects(32, together=0.5).of(BOTH), _effects().of(BOTH)
    assert _covers(pair, 0.5) and pair.low > 0.1
    assert _covers(none, 0.0)


def test_more_noise_makes_wider_intervals() -> None:
    quiet, loud = (_effects(noise=noise).of(INT8) for noise in (0.03, 0.2))
    assert loud.high - loud.low > 2 * (quiet.high - quiet.low)


def test_two_points_differ_by_all_of_their_settings_together() -> None:
    new = {"quantization": "int8", "batch_size": 256, "workers": 1}
    old = {"quantization": "fp16", "batch_size": 16, "workers": 2}
    assert _covers(_effects().between(new, old), 0.8)


def test_values_beyond_saturation_are_nearly_alike() -> None:
    """Where an engine serves four users, 64 sequences at once are as many as 256."""
    points = _points(24)
    values = np.array([min(p["batch_size"], 4) / 4.0 for p in points])
    beyond = Change({"batch_size": 64}, {"batch_size": 256})
    informed, blind = (Effects(SPACE, points, values, limit).of(beyond) for limit in ({"batch_size": 4.0}, {}))
    assert _covers(informed, 0.0) and informed.high - informed.low < 0.5 * (blind.high - blind.low)


def test_many_trials_are_modelled_by_a_sample_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.search.effects._MODELLED", 24)
    assert _covers(_effects(1000).of(INT8), 0.4)
