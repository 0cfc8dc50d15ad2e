"""Changes against the first row of a table as text: percentages, multiples, and differences in quality."""

from __future__ import annotations

from objectives import Estimate
from objectives.segments import Paired
from optimize.formatting import multiple, ratio_text, signed


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
        return f"{multiple(change, inline)}, {test}"
    return f"{signed(gap, inline=inline)}, {test}"
