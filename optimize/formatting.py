"""Figures as text: value and interval with the digits the interval allows, in units people read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from objectives import Estimate

_SCALES: dict[str, list[tuple[float, str]]] = {
    "bytes": [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")],
    "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
}
_ACRONYMS = {"qps", "bleu", "ttft", "tpot", "kv", "cpu", "gpu"}


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


def interval_of(estimate: Estimate) -> str:
    """The interval alone, e.g. "[92.0, 102.3] 1/s"; "exact" where it is the value itself."""
    text = figure(estimate)
    return text[text.index("[") :] if "[" in text else "exact"


def unit_of(unit: str, value: float) -> tuple[float, str]:
    """The unit that people read a value of this size in: (how much of `unit` it is, its name)."""
    for factor, name in _SCALES.get(unit, []):
        if abs(value) >= factor:
            return factor, name
    return 1.0, "" if unit == "BLEU" else "×" if unit == "x" else unit


def title_of(name: str) -> str:
    """A metric's name for people, its unit left to the figures: "p99_latency_s" is "P99 latency"."""
    words = re.sub(r"_(s|bytes|per_s)$", "", name).split("_")
    shown = [w.upper() if w in _ACRONYMS or re.fullmatch(r"p\d+", w) else w for w in words]
    return " ".join([shown[0][:1].upper() + shown[0][1:], *shown[1:]])


def _scale(estimate: Estimate) -> tuple[float, str]:
    return unit_of(estimate.unit, estimate.value)


def _digits(value: float, width: float) -> int:
    """Decimals: enough for two digits of the interval's width, or for three of an exact value."""
    scale, keep = (width, 2) if width > 0 else (abs(value), 3)
    if scale == 0 or not math.isfinite(scale):
        return 0
    return min(4, max(0, keep - 1 - math.floor(math.log10(scale))))


def markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def shown_settings(params: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={_shown(v)}" for k, v in params.items())


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
