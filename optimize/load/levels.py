"""The level of a load: its rate or its number of users, which a search for a capacity changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optimize.capacity import Unit
from optimize.errors import ConfigError
from optimize.load.arrivals import Arrivals, ClosedLoop, Stationary

AUTO = "auto"
"""A level that stands for a share of the baseline's capacity."""
_STAND_INS: Mapping[str, float] = {"users": 8, "rate_per_s": 1.0}
"""Setting that is a level -> what `auto` is replaced by until the capacity is known."""


def unit_of(arrivals: Arrivals) -> Unit:
    """What the levels of a load are.

    Raises:
        ConfigError: arrivals without a level of their own.
    """
    if isinstance(arrivals, ClosedLoop):
        return Unit.USERS
    if isinstance(arrivals, Stationary):
        return Unit.PER_S
    raise ConfigError(
        f"a capacity is searched for by changing one level, and {arrivals.describe()} has none: choose load=capacity "
        "(requests per second) or load=capacity_users"
    )


def level_of(arrivals: Arrivals) -> float:
    """The level of a load that has one; see `unit_of`."""
    if isinstance(arrivals, ClosedLoop):
        return float(arrivals.users)
    assert isinstance(arrivals, Stationary)
    return arrivals.rate_per_s


def at_level(arrivals: Arrivals, level: float) -> Arrivals:
    """The same load at another level; users are whole, and at least one."""
    if isinstance(arrivals, ClosedLoop):
        return replace(arrivals, users=max(1, round(level)))
    assert isinstance(arrivals, Stationary)
    return replace(arrivals, rate_per_s=level)


def auto_setting(node: Any) -> str:
    """The setting of `load.arrivals` that is "auto"; empty where none is."""
    if not isinstance(node, Mapping):
        return ""
    return next((name for name in _STAND_INS if node.get(name) == AUTO), "")


def without_auto(node: Any) -> Any:
    """The node with a stand-in for "auto"."""
    name = auto_setting(node)
    return {**node, name: _STAND_INS[name]} if name else node
