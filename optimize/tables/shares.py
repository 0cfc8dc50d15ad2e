"""Shares of a figure's variance that knobs and pairs explain, as a table and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimize.formatting import markdown_line, percent, percentage


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a figure's variance that a knob explains alone, or a pair of knobs beyond the two.

    Attributes:
        figure: Objective.
        knobs: One or two.
        value: Share of the variance over the space, 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        chance: 95 % quantile of the share in shuffled figures.
    """

    figure: str
    knobs: tuple[str, ...]
    value: float
    low: float
    high: float
    chance: float

    @property
    def evident(self) -> bool:
        return self.low > self.chance

    @property
    def text(self) -> str:
        """The share with its interval, e.g. "61 % (55–67 %)"."""
        return percentage(self.value, self.low, self.high)

    def in_words(self) -> str:
        """One sentence that the data supports."""
        share = f"{self.text} of its variance"
        if len(self.knobs) == 1:
            (knob,) = self.knobs
            if self.evident:
                return f"{knob} matters for {self.figure}: alone it explains {share}."
            return f"Not enough evidence that {knob} alone matters for {self.figure}: {share}."
        one, other = self.knobs
        if self.evident:
            return f"{one} and {other} interact on {self.figure}: together they explain {share} beyond each alone."
        return f"Not enough evidence that {one} and {other} interact on {self.figure}: {share}."


def shares_markdown(results: Sequence[Share], legend: str) -> str:
    """Shares as a table with its legend, and a sentence on each."""
    head = ["objective", "knob or pair", "share of the variance", "reached by chance", "evident"]
    lines = [markdown_line(head), markdown_line(["---"] * len(head))]
    for share in results:
        cells = [
            share.figure, " × ".join(share.knobs), share.text, percent(share.chance), "yes" if share.evident else "no",
        ]  # fmt: skip
        lines.append(markdown_line(cells))
    return "\n".join([*lines, "", legend, "", *(f"- {share.in_words()}" for share in results)]) + "\n"
