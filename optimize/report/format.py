"""Figures as text: value and interval with the digits the interval allows, in units people read."""

from __future__ import annotations

import math
import re

from objectives import Estimate

_SCALES: dict[str, list[tuple[float, str]]] = {
    "bytes": [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")],
    "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
}


def figure(estimate: Estimate) -> str:
    """E.g. "97.1 [92.0, 102.3] 1/s"; without an interval where it is the value itself."""
    factor, unit = _scale(estimate)
    value, low, high = (x / factor for x in (estimate.value, estimate.low, estimate.high))
    digits = _digits(value, high - low)
    interval = f" [{low:.{digits}f}, {high:.{digits}f}]" if high > low else ""
    return f"{value:.{digits}f}{interval} {unit}".rstrip()


def value_of(estimate: Estimate) -> str:
    """The value alone, with the digits that its interval allows."""
    return re.sub(r" \[.*\]", "", figure(estimate))


def _scale(estimate: Estimate) -> tuple[float, str]:
    for factor, unit in _SCALES.get(estimate.unit, []):
        if abs(estimate.value) >= factor:
            return factor, unit
    return 1.0, "" if estimate.unit == "BLEU" else "×" if estimate.unit == "x" else estimate.unit


def _digits(value: float, width: float) -> int:
    """Decimals: enough for two digits of the interval's width, or for three of an exact value."""
    scale, keep = (width, 2) if width > 0 else (abs(value), 3)
    if scale == 0 or not math.isfinite(scale):
        return 0
    return min(4, max(0, keep - 1 - math.floor(math.log10(scale))))
