"""Bounds of settings: what they accept, and how they say what they refuse."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import pytest

from optimize.config.bounds import Bounds, bounded, bounds_of, not_negative, positive
from optimize.errors import ConfigError


@dataclass
class Settings:
    retries: int = not_negative(1)
    period_s: float | None = positive(None)
    shares: list[float] = positive([0.5, 1.0])
    mode: str = bounded("slow", choices=("slow", "fast"))
    name: str = ""


BOUNDS = {field.name: bounds_of(field) for field in fields(Settings)}


def test_bounds_stand_beside_the_default_and_change_nothing_about_it() -> None:
    assert Settings() == Settings(1, None, [0.5, 1.0], "slow", "")
    assert Settings().shares is not Settings().shares
    assert BOUNDS["name"] is None


@pytest.mark.parametrize(
    ("bounds", "value"),
    [
        (Bounds(least=0), 0), (Bounds(least=1), 1), (Bounds(least=1, most=9), 9), (Bounds(above=0), 1e-9),
        (Bounds(above=0, below=1), 0.5), (Bounds(choices=("a", "b")), "b"), (Bounds(above=0, nullable=True), None),
        (Bounds(above=0), []), (Bounds(above=0), {"a": 1.0}), (Bounds(above=0), math.inf),
    ],
)  # fmt: skip
def test_values_within_bounds_pass(bounds: Bounds, value: Any) -> None:
    bounds.check("key", value)


@pytest.mark.parametrize(
    ("bounds", "value", "message"),
    [
        (Bounds(least=0), -1, "key must not be negative, got -1"),
        (Bounds(least=2, reason="one is too few"), 1, "key must be at least 2, got 1: one is too few"),
        (Bounds(least=1, most=9), 10, "key must be from 1 to 9, got 10"),
        (Bounds(above=0), 0.0, "key must be positive, got 0"),
        (Bounds(above=0), math.nan, "key must be positive, got nan"),
        (Bounds(above=0, nullable=True), -0.5, "key must be positive or null, got -0.5"),
        (Bounds(above=0, below=1), 1.0, "key must be between 0 and 1, got 1"),
        (Bounds(above=0), [1.0, 0.0], "key must be positive, got 0"),
        (Bounds(above=0), {"a": 1.0, "b": -1.0}, "key.b must be positive, got -1"),
        (Bounds(choices=("slow", "fast")), "fats", "key must be one of slow, fast, got 'fats'; did you mean 'fast'?"),
    ],
)
def test_values_out_of_bounds_are_refused_with_the_rule(bounds: Bounds, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        bounds.check("key", value)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("bounds", "symbols"),
    [
        (Bounds(least=1), "≥ 1"), (Bounds(above=0), "> 0"), (Bounds(above=0, below=1), "> 0, < 1"),
        (Bounds(least=1, most=65535), "≥ 1, ≤ 65535"), (Bounds(choices=("a", "b")), "a or b"),
    ],
)  # fmt: skip
def test_bounds_are_written_in_symbols_for_the_reference(bounds: Bounds, symbols: str) -> None:
    assert bounds.in_symbols() == symbols
