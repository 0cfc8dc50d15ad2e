"""Figures as text: value and interval with the digits that the interval allows, in units people read.

One way of writing for Markdown, HTML, terminal and notes; files for machines (JSON, CSV) hold the exact figures.

    figure            97.1 (92.0–102.3) requests/s
    value_of          97.1 requests/s
    interval_of       92.0–102.3 requests/s
    ratio             2.04× (1.89–2.21)
    versus_default    2.04× the default (95 % CI 1.89–2.21)
    percentage        61 % (55–67 %)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from objectives import Direction, Estimate

if TYPE_CHECKING:
    from rich.console import Console

_SCALES: dict[str, list[tuple[float, str]]] = {
    "bytes": [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")],
    "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
}
_NAMES = {"BLEU": "", "x": "×", "1/s": "requests/s"}
"""Units as people read them, where they are not written as they are stored."""
_NO_SPREAD = 1e-4
"""Intervals narrower than this share of the value say nothing that three digits of the value do not."""
UNSET = "unset"
"""A flag or variable that no value is given to: vLLM's own default holds."""
_MULTIPLE_FROM = 2.0
"""Ratios at least this far from 1, either way, are written as multiples instead of percentages."""
_ACRONYMS = {"qps", "bleu", "ttft", "tpot", "kv", "cpu", "gpu"}


def figure(estimate: Estimate) -> str:
    """Value, interval and unit; the value and its unit alone where there is no interval."""
    value, interval, unit = _parts(estimate)
    if unit == "×":
        return f"{value}×{_enclosed(interval)}"
    return f"{value}{_enclosed(interval)} {unit}".rstrip()


def value_of(estimate: Estimate) -> str:
    """The value alone, with the digits that its interval allows."""
    value, _, unit = _parts(estimate)
    return f"{value}×" if unit == "×" else f"{value} {unit}".rstrip()


def interval_of(estimate: Estimate) -> str:
    """The interval alone; "no measurable spread" if there is none."""
    _, interval, unit = _parts(estimate)
    if not interval:
        return "no measurable spread"
    return f"{interval}{'×' if unit == '×' else f' {unit}'}".rstrip()


def ratio(estimate: Estimate) -> str:
    """A ratio and its interval, whatever unit it carries."""
    return figure(Estimate(estimate.value, estimate.low, estimate.high, estimate.n, "x"))


def versus_default(estimate: Estimate, reference: str = " the default") -> str:
    """A ratio to the default with its 95 % confidence interval; `reference` may be left out where it is clear."""
    value, interval, _ = _parts(Estimate(estimate.value, estimate.low, estimate.high, estimate.n, "x"))
    return f"{value}×{reference}" + (f" (95 % CI {interval})" if interval else "")


def change_of(gain: Estimate, direction: Direction) -> Estimate:
    """The figure itself as a multiple of the reference's.

    A gain is above 1 where a figure is better; half the latency is a gain of 2, and reads as 0.5× the latency.

    Args:
        gain: How many times better, at least 0.
        direction: Which way the figure improves.
    """
    if direction is Direction.MAXIMIZE or not gain.value > 0:
        return gain
    low, high = (1 / end if end > 0 else math.inf for end in (gain.high, gain.low))
    return Estimate(1 / gain.value, low, high, gain.n, gain.unit)


def gib(size: int) -> str:
    """Bytes in GiB."""
    return f"{size / 2**30:.1f} GiB"


def percent(value: float) -> str:
    """A share of 1 in whole percent."""
    return f"{100 * value:.0f} %"


def percentage(value: float, low: float, high: float) -> str:
    """A share of 1 with its interval, in whole percent."""
    return f"{percent(value)} ({100 * low:.0f}–{percent(high)})"


def span(low: str, high: str) -> str:
    """The ends of an interval; "to" where a dash could be read as a minus."""
    return f"{low} to {high}" if {"-", "−", "+"} & {low[:1], high[:1]} else f"{low}–{high}"


def unit_of(unit: str, value: float) -> tuple[float, str]:
    """The unit that people read a value of this size in: (how much of `unit` it is, its name)."""
    if unit == "share":
        return 0.01, "%"
    for factor, name in _SCALES.get(unit, []):
        if abs(value) >= factor:
            return factor, name
    return 1.0, stored_unit(unit)


def stored_unit(unit: str) -> str:
    """The name of a unit for people, where values are shown as they are stored."""
    return _NAMES.get(unit, unit)


def title_of(name: str) -> str:
    """A metric's name for people, its unit left to the figures: "p99_latency_s" is "P99 latency"."""
    words = re.sub(r"_(s|bytes|per_s)$", "", name).split("_")
    shown = [w.upper() if w in _ACRONYMS or re.fullmatch(r"p\d+", w) else w for w in words]
    return " ".join([shown[0][:1].upper() + shown[0][1:], *shown[1:]])


def ratio_text(change: Estimate, inline: bool = False) -> str:
    """A ratio as a change in percent, or as a multiple if it is far from 1.

    Args:
        change: The ratio.
        inline: Whether the text stands in parentheses: the interval then follows a comma.
    """
    if change.low == change.value == change.high == 1:
        return "unchanged"
    if not 1 / _MULTIPLE_FROM < change.value < _MULTIPLE_FROM:
        return multiple(change, inline)
    value, low, high = (100 * (x - 1) for x in (change.value, change.low, change.high))
    return signed(Estimate(value, low, high, change.n, change.unit), " %", inline)


def multiple(change: Estimate, inline: bool = True) -> str:
    """A ratio and its interval; `inline` as in `ratio_text`."""
    digits = decimals(change.value, change.high - change.low)
    value = f"{change.value:.{digits}f}×"
    if not change.high > change.low:
        return value
    return _joined(value, span(f"{change.low:.{digits}f}", f"{change.high:.{digits}f}"), inline)


def signed(change: Estimate, unit: str = "", inline: bool = False) -> str:
    """A difference with its sign, and its interval."""
    digits = decimals(change.value, change.high - change.low)
    value = f"{change.value:+.{digits}f}{unit}".replace("-", "−")
    if not change.high > change.low:
        return value
    low, high = (f"{end:+.{digits}f}".replace("-", "−") for end in (change.low, change.high))
    return _joined(value, f"{low} to {high}{unit}", inline)


def _joined(value: str, interval: str, inline: bool) -> str:
    return f"{value}, 95 % CI {interval}" if inline else f"{value} ({interval})"


def decimals(value: float, width: float) -> int:
    """Decimals: enough for two digits of the interval's width, or for three of an exact value."""
    scale, keep = (width, 2) if width > 0 else (abs(value), 3)
    if scale == 0 or not math.isfinite(scale):
        return 0
    return min(4, max(0, keep - 1 - math.floor(math.log10(scale))))


def _parts(estimate: Estimate) -> tuple[str, str, str]:
    """(value, interval or nothing, unit) as text."""
    factor, unit = unit_of(estimate.unit, estimate.value)
    value, low, high = (x / factor for x in (estimate.value, estimate.low, estimate.high))
    if not high - low > _NO_SPREAD * abs(value):
        low = high = value
    digits = decimals(value, high - low)
    interval = span(f"{low:.{digits}f}", f"{high:.{digits}f}") if high > low else ""
    return f"{value:.{digits}f}", interval, unit


def _enclosed(interval: str) -> str:
    return f" ({interval})" if interval else ""


def markdown_line(cells: Sequence[str]) -> str:
    """A line of a table; a bar, a line break or another control character within a cell does not end it."""
    shown = [printable(" ".join(cell.splitlines())) for cell in cells]
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\|", cell) for cell in shown) + " |"


def markdown_text(text: str) -> str:
    """A text without Markdown: an engine's log may hold what would be a picture from elsewhere, a link or HTML.

    Underscores within a word mean nothing in Markdown, and stay as they are.
    """
    return re.sub(r"([\\`*<>\[\]!|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))


def markdown_block(texts: Iterable[str]) -> str:
    """Texts as a block of code, which no line of them can end."""
    return "\n".join(f"    {line}" for text in texts for line in text.splitlines())


def shown_settings(params: Mapping[str, Any]) -> str:
    return " ".join(f"{knob}={shown_value(value)}" for knob, value in params.items())


def shown_value(value: Any) -> str:
    """A knob's value on one line; real numbers with three digits."""
    if value is None:
        return UNSET
    return f"{value:.3g}" if isinstance(value, float) else printable(str(value))


def printable(text: str, keep: str = "") -> str:
    r"""A text whose line breaks and other control characters are written out: "\n", "\x1b".

    They would end a row of a table, move the cursor of a terminal, or make a picture unreadable.

    Args:
        text: The text.
        keep: Characters to leave as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def nonbreaking(text: str) -> str:
    """Keep each interval in parentheses, each percent sign and each ratio on one line."""
    joined = re.sub(r"\([^()]*\)", lambda match: match[0].replace("–", "\u2060–\u2060").replace(" ", "\u00a0"), text)
    return joined.replace(" %", "\u00a0%").replace("× the default", "×\u00a0the\u00a0default")


def terminal() -> Console:
    """A console that shows every text as it is: brackets and colons in a knob's value are no markup and no emoji."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
