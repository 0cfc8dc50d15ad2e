"""The points of a search space that no rule forbids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from optimize.errors import ConfigError
from optimize.search.conditions import Conditions, counts
from optimize.search.designs import scattered, spread
from optimize.search.domain import values
from optimize.search.encoding import Encoding, Point, Space, every_point
from optimize.search.knobs import names_of
from optimize.search.rules import FORBID, Rule

_STEPS, _MOST = 8, 4096


class Permitted:
    """What rules leave of a space.

    Args:
        rules: The rules.
        space: Knob -> distribution. One of a single value counts even where a point leaves it out, as samplers do.
        conditions: Knob -> its condition: a knob without effect has no value in a rule.
        fixed: Flag -> value, of flags that are the same in all trials.

    Raises:
        ConfigError: they leave nothing, or one of them compares what cannot be compared.
    """

    def __init__(
        self, rules: Sequence[Rule], space: Space, conditions: Conditions, fixed: Mapping[str, Any]
    ) -> None:  # fmt: skip
        self._rules, self._conditions, self._fixed = rules, conditions, fixed
        self._single = {knob: values(d)[0] for knob, d in space.items() if d.single()}
        self._knobs = self._those_that_decide(space)
        self._refuge = self._first() if rules else {}

    def allows(self, params: Mapping[str, Any]) -> bool:
        """Whether no rule forbids these settings."""
        if not self._rules:
            return True
        settings = self._settings(params)
        return not any(rule.holds(settings) for rule in self._rules)

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Name -> value, by the names of knobs and of the flags that they set."""
        point = {**self._single, **params}
        active = {knob: value for knob, value in point.items() if counts(self._conditions, knob, point)}
        return {**self._fixed, **{name: value for knob, value in active.items() for name in names_of(knob)}}

    def nearest(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The point itself where it is permitted, else with one setting moved as little as permits it.

        Where no single move does, all knobs on which it depends get settings that are known to be permitted.
        """
        if self.allows(params):
            return params
        moved = ({**params, name: value} for _, name, value in self._moves(params))
        return next(filter(self.allows, moved), {k: self._refuge.get(k, v) for k, v in params.items()})

    def _moves(self, params: Mapping[str, Any]) -> list[tuple[float, str, Any]]:
        """(distance, knob, value) of single changes, the shortest first."""
        moves = []
        for name, distribution in self._knobs.items():
            if name in params:
                others = [*spread(distribution, _STEPS), *values(distribution)]
                points = [{name: value} for value in (params[name], *others)]
                places = Encoding({name: distribution}).rows(points)[:, 0]
                moves += [(abs(place - places[0]), name, v) for place, v in zip(places[1:], others, strict=True)]
        return sorted(moves, key=lambda move: float(move[0]))

    def _those_that_decide(self, space: Space) -> dict[str, BaseDistribution]:
        """The knobs on which it depends whether a point is permitted."""
        names = {name for rule in self._rules for name in rule.names}
        knobs = [knob for knob in space if names.intersection(names_of(knob))]
        for knob in knobs:
            knobs += [other for other in self._conditions.get(knob, ()) if other not in knobs]
        return {knob: space[knob] for knob in knobs}

    def _first(self) -> Point:
        """Settings of these knobs that are permitted."""
        points = every_point(self._knobs, _MOST) or scattered(self._knobs, _MOST, np.random.RandomState(0))
        for rule in self._rules:
            if not any(rule.is_computable(self._settings(point)) for point in points):
                raise ConfigError(f"search_space.{FORBID}: {rule.text!r} computes with texts: compare them by == or in")
        point = next(filter(self.allows, points), None)
        if point is None:
            texts = "; ".join(rule.text for rule in self._rules)
            raise ConfigError(f"search_space.{FORBID} leaves no point of the search space ({texts}): forbid less")
        return point
