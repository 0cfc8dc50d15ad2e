"""Changes against the first row of a table as text: percentages, multiples, and differences in quality."""

from __future__ import annotations

from objectives import Estimate
from objectives.segments import Paired
from optimize.formatting import decimals, span

_MULTIPLE_FROM = 2.0
"""Ratios at least this far from 1, either way, are written as multiples instead of percentages."""


def change_text(change: Estimate | None, paired: Paired | None = None, inline: bool = False) -> str:
    """A change against the first row; of quality the difference and its test.

    Args:
        change: Ratio to the first row's figure; None for the first row.
        paired: Comparison on common prompts; None unless the metric is one of quality.
        inline: Whether the text stands in parentheses: the interval then follows a comma.
    """
    if paired is None:
        return "" if change is None else ratio_text(change, inline)
    test = f"p = {paired.p:.2g}, {'significant' if paired.significant else 'not significant'}"
    gap = paired.difference
    if change is not None and gap.unit == "":  # perplexity is compared as a ratio
        return f"{_multiple(change, inline)}, {test}"
    return f"{_signed(gap, inline=inline)}, {test}"


def ratio_text(change: Estimate, inline: bool = False) -> str:
    """A ratio as a change in percent, or as a multiple if it is far from 1."""
    if change.low == change.value == change.high == 1:
        return "unchanged"
    if not 1 / _MULTIPLE_FROM < change.value < _MULTIPLE_FROM:
        return _multiple(change, inline)
    value, low, high = (100 * (x - 1) for x in (change.value, change.low, change.high))
    return _signed(Estimate(value, low, high, change.n, change.unit), " %", inline)


def multiple(change: Estimate) -> str:
    """A ratio and its interval, for use within parentheses."""
    return _multiple(change, inline=True)


def _multiple(change: Estimate, inline: bool) -> str:
    digits = decimals(change.value, change.high - change.low)
    value = f"{change.value:.{digits}f}×"
    if not change.high > change.low:
        return value
    return _joined(value, span(f"{change.low:.{digits}f}", f"{change.high:.{digits}f}"), inline)


def _signed(change: Estimate, unit: str = "", inline: bool = False) -> str:
    digits = decimals(change.value, change.high - change.low)
    value = f"{change.value:+.{digits}f}{unit}".replace("-", "−")
    if not change.high > change.low:
        return value
    low, high = (f"{end:+.{digits}f}".replace("-", "−") for end in (change.low, change.high))
    return _joined(value, f"{low} to {high}{unit}", inline)


def _joined(value: str, interval: str, inline: bool) -> str:
    return f"{value}, 95 % CI {interval}" if inline else f"{value} ({interval})"
