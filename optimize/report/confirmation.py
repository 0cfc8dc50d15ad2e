"""What became of the search's readings when they were measured again."""

from __future__ import annotations

from collections.abc import Mapping

from optimize.decision.recommendation import Candidate
from optimize.formatting import figure, markdown_line, shown_settings, value_of
from optimize.study.rows import Row


def confirmation_markdown(row: Row, refuted: Mapping[int, str]) -> str:
    """Every candidate measured again, best score first: each figure beside the search's single reading of it.

    Args:
        row: The recommendation.
        refuted: Trial that could not be measured again -> why.
    """
    found = row.found
    ranked = sorted(found.considered, key=lambda c: -found.scores[c.number].value)
    lines = [
        markdown_line(["trial", "settings", "score", *row.objectives]),
        markdown_line(["---"] * (3 + len(row.objectives))),
    ]
    for c in ranked:
        score = "1" if c.baseline else figure(found.scores[c.number])
        figures = [_beside_the_first(c, name) for name in row.objectives]
        note = "" if c.feasible else " (breaks a constraint)"
        settings = "vLLM's defaults" if c.baseline else shown_settings(c.params)
        lines.append(markdown_line([f"{c.number}{note}", settings, score, *figures]))
    about = (
        f"Measured again in {found.rounds} rounds, each in a random order: geometric means, and the interval that a "
        "further measurement falls in; in brackets what the search had read. Scores compare within the rounds."
    )
    gone = [f"- trial {number} could not be measured again: {why}" for number, why in refuted.items()]
    return "\n".join([*lines, "", about, *(["", *gone] if gone else [])]) + "\n"


def _beside_the_first(candidate: Candidate, name: str) -> str:
    now = candidate.estimates.get(name)
    if now is None:
        return "–"
    first = candidate.first.get(name)
    return figure(now) + (f" ({value_of(first)})" if first is not None else "")
