"""Scales from figures to pixels, their ticks in readable units, and the frame of a panel."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from optimize.formatting import unit_of
from optimize.report.charts.canvas import Drawing, Label, Stroke

_LOG_FROM = 4.0
"""A range is shown on a logarithmic scale from this ratio of its ends."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Values low to high at pixels `start` to `stop`.

    Attributes:
        low: Least value.
        high: Greatest value, above `low`.
        start: Pixel of `low`.
        stop: Pixel of `high`.
        log: Whether it is logarithmic.
        unit: Unit of the values.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    unit: str = ""

    def at(self, value: float) -> float:
        """Pixel of a value; beyond the ends, the end."""
        return self.start + self.share(value) * (self.stop - self.start)

    def share(self, value: float) -> float:
        """Position of a value along the scale, 0 to 1."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """(value, its label) of each tick; the axis title names the unit, `shown_unit`."""
        factor, _ = self._shown()
        low, high = self.low / factor, self.high / factor
        ticks = _log_ticks(low, high, most) if self.log else []
        if len(ticks) < 2:
            ticks = _even_ticks(low, high, most)
        return [(v * factor, _label(v)) for v in ticks]

    @property
    def shown_unit(self) -> str:
        return self._shown()[1]

    def _shown(self) -> tuple[float, str]:
        return unit_of(self.unit, self.high)


def scale_of(values: Iterable[float], start: float, stop: float, unit: str = "", log: bool | None = None) -> Scale:
    """A scale around some values, with a little room at both ends.

    Args:
        values: Values it must show.
        start: Pixel of its low end.
        stop: Pixel of its high end.
        unit: Unit of the values.
        log: Whether it is logarithmic; None decides by the range.
    """
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if log is None:
        log = low > 0 and high / low >= _LOG_FROM
    if low == high:
        low, high = (low * 0.9, high * 1.1) if low else (0.0, 1.0)
    if log and low > 0:
        room = (high / low) ** 0.05
        return Scale(low / room, high * room, start, stop, True, unit)
    room = 0.05 * (high - low)
    return Scale(max(0.0, low - room) if low >= 0 else low - room, high + room, start, stop, False, unit)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 4, 6, 8), (1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)]


def _even_ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / max(1, most)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _label(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def frame(drawing: Drawing, x: Scale, y: Scale, x_title: str, y_title: str) -> None:
    """Grid, ticks and titles of a panel; the vertical axis has its title above it, so that it reads horizontally."""
    left, right = sorted((x.start, x.stop))
    top, bottom = sorted((y.start, y.stop))
    for value, text in x.ticks(max(2, round((right - left) / 60))):
        drawing.add(Stroke([[(x.at(value), top), (x.at(value), bottom)]], "grid"))
        drawing.add(Label(x.at(value), bottom + 15, text))
    for value, text in y.ticks(max(2, round((bottom - top) / 45))):
        drawing.add(Stroke([[(left, y.at(value)), (right, y.at(value))]], "grid"))
        drawing.add(Label(left - 6, y.at(value) + 4, text, anchor="end"))
    if x_title:
        drawing.add(Label(right, bottom + 32, x_title, role="ink", anchor="end"))
    if y_title:
        drawing.add(Label(4, top - 10, y_title, role="ink", anchor="start"))
