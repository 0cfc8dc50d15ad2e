"""The confirmation as a Markdown table: each candidate's confirmed figures beside the search's single measurement."""

from __future__ import annotations

from collections.abc import Mapping

from optimize.decision.recommendation import Candidate
from optimize.formatting import figure, markdown_line, ratio, shown_settings, value_of
from optimize.study.rows import Row

_LEGEND = (
    "Geometric means of {rounds} rounds, each in a random order, with 95 % prediction intervals: where one further "
    "measurement would fall. After “search:” stands the search's single measurement. Scores compare within the rounds."
)


def confirmation_markdown(row: Row, refuted: Mapping[int, str]) -> str:
    """Every confirmed candidate, best score first.

    Args:
        row: The recommendation.
        refuted: Trial that could not be measured again -> reason.
    """
    scores = row.recommendation.scores
    head = ["trial", "settings", "score", *row.objectives]
    lines = [markdown_line(head), markdown_line(["---"] * len(head))]
    for c in sorted(row.recommendation.considered, key=lambda c: -scores[c.number].value):
        note = "" if c.feasible else " (violates a constraint)"
        settings = c.defaults if c.baseline else shown_settings(c.settings)
        score = "1×" if c.baseline else ratio(scores[c.number])
        cells = [_confirmed_figure(c, name) for name in row.objectives]
        lines.append(markdown_line([f"{c.number}{note}", settings, score, *cells]))
    dropped = [f"- trial {number} could not be measured again: {reason}" for number, reason in refuted.items()]
    legend = _LEGEND.format(rounds=row.recommendation.rounds)
    return "\n".join([*lines, "", legend, *(["", *dropped] if dropped else [])]) + "\n"


def _confirmed_figure(candidate: Candidate, name: str) -> str:
    confirmed, first = candidate.estimates.get(name), candidate.first.get(name)
    if confirmed is None:
        return "–"
    return figure(confirmed) + (f", search: {value_of(first)}" if first is not None else "")
