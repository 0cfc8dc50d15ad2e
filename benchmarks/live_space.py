"""The search space of the live table: the points of the table, as a study searches them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from benchmarks.ground_truth import Key, key_of
from benchmarks.tabular import GRID

SPACE: dict[str, BaseDistribution] = {
    "quantization": CategoricalDistribution(GRID["quantization"]),
    "batch_size": IntDistribution(0, len(GRID["batch_size"]) - 1),  # powers of four: steps of the logarithm
    "workers": IntDistribution(min(GRID["workers"]), max(GRID["workers"])),
    "beam_size": CategoricalDistribution(GRID["beam_size"]),
}
SATURATION = {"batch_size": GRID["batch_size"].index(16)}
"""Knob -> value beyond which more changes little: the table's four users have at most four beams each."""


def key_at(params: Mapping[str, Any]) -> Key:
    """The table's point at values of the knobs."""
    return key_of({**params, "batch_size": GRID["batch_size"][params["batch_size"]]})


def params_of(point: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the knobs at a point of the table."""
    return {**point, "batch_size": GRID["batch_size"].index(point["batch_size"])}
