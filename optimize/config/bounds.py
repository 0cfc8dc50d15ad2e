"""Bounds of a setting, declared beside its default in the schema and checked by `optimize.config.validate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from typing import Any

from optimize.errors import ConfigError, closest

_KEY = "bounds"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values that a setting may have; of a list or a mapping, those of each of its items.

    Attributes:
        least: The smallest value.
        most: The largest value.
        above: A value that is itself too small.
        below: A value that is itself too large.
        choices: All values, of a setting that is a word.
        nullable: Whether the setting may be null, which is no value at all.
        reason: Ends the message about a value out of bounds: why, or what to do.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    nullable: bool = False
    reason: str = ""

    def check(self, key: str, value: Any) -> None:
        """Compare a value, or all that it consists of, with the bounds.

        Raises:
            ConfigError: the rule, the value and the remedy.
        """
        if isinstance(value, Mapping):
            for name, item in value.items():
                self.check(f"{key}.{name}", item)
        elif isinstance(value, list):
            for item in value:
                self.check(key, item)
        elif value is not None and not self._holds(value):
            raise ConfigError(f"{key} must {self.rule}, got {_shown(value)}{self._remedy(value)}")

    def _holds(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return bool(self.least <= value <= self.most and value > self.above and not value >= self.below < math.inf)

    def _remedy(self, value: Any) -> str:
        if self.choices:
            return f"; {closest(str(value), self.choices)}"
        return f": {self.reason}" if self.reason else ""

    @property
    def rule(self) -> str:
        """What follows "must" in a message, e.g. "be at least 1 or null"."""
        return f"{self._range()}{' or null' if self.nullable else ''}"

    def _range(self) -> str:
        if self.choices:
            return f"be one of {', '.join(self.choices)}"
        if self.above > -math.inf and self.below < math.inf:
            return f"be between {self.above:g} and {self.below:g}"
        if self.least > -math.inf and self.most < math.inf:
            return f"be from {self.least:g} to {self.most:g}"
        if self.above == 0:
            return "be positive"
        return "not be negative" if self.least == 0 else f"be at least {self.least:g}"

    def in_symbols(self) -> str:
        """The bounds for a table, e.g. "≥ 1"."""
        if self.choices:
            return " or ".join(self.choices)
        signs = {"≥": self.least, ">": self.above, "≤": self.most, "<": self.below}
        return ", ".join(f"{sign} {limit:g}" for sign, limit in signs.items() if math.isfinite(limit))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def bounded(default: Any, **bounds: Any) -> Any:
    """A field of the schema with bounds.

    Args:
        default: Its default; a list or a dictionary is copied for each configuration.
        bounds: The fields of `Bounds` but for `nullable`, which a default of None says.
    """
    metadata = {_KEY: Bounds(nullable=default is None, **bounds)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def positive(default: Any, **bounds: Any) -> Any:
    """A field of the schema that is greater than zero."""
    return bounded(default, above=0, **bounds)


def not_negative(default: Any, **bounds: Any) -> Any:
    """A field of the schema that is zero or greater."""
    return bounded(default, least=0, **bounds)


def bounds_of(setting: Field[Any]) -> Bounds | None:
    """The bounds of a field of the schema; None where any value of its type will do."""
    return setting.metadata.get(_KEY)
