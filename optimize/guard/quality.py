"""Quality of the two sides in pairs: by their answers to the same prompts, over all rounds so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from objectives import Measurement, RequestRecord
from objectives.segments import SegmentScore
from optimize.evaluation.answers import answers_key
from optimize.evaluation.engine_scores import engine_scores
from optimize.evaluation.references import References, texts_of
from optimize.guard.change import Change, of_answers
from optimize.guard.sides import Side


@dataclass
class SideAnswers:
    """The first answer of one side to each prompt, whatever key it has: sides may differ in what no key holds.

    Attributes:
        texts: Workload row -> answer.
    """

    texts: dict[int, str] = field(default_factory=dict)
    baseline: str | None = field(default=None, init=False)

    def of(self, key: str) -> Mapping[int, str]:
        return dict(self.texts)

    def add(self, key: str, answers: Sequence[RequestRecord], baseline: bool) -> None:
        for answer in answers:
            if answer.error is None:
                self.texts.setdefault(answer.prompt_id, answer.text)


def changes_of(
    row: Side, other: Side, answers: Mapping[str, SideAnswers], references: References | None
) -> dict[str, Change]:
    """Objective -> how the other side's answers compare with the row's.

    Args:
        row: The row.
        other: The other side.
        answers: Name of a side -> its answers.
        references: The unquantized model's own answers, where these are what answers are scored against.
    """
    scores = {name: m for name, m in row.plan.objectives.items() if isinstance(m, SegmentScore)}
    if not scores:
        return {}
    other_answers, row_answers = (_measurement(side, answers[side.name], references) for side in (other, row))
    changes: dict[str, Change] = {}
    for name, score in scores.items():
        paired, level = score.paired(other_answers, row_answers), score.estimate(row_answers)
        if paired is not None and level is not None:
            change = of_answers(paired, level.value, score.direction)
            changes |= {} if change is None else {name: change}
    return changes


def _measurement(side: Side, answers: SideAnswers, references: References | None) -> Measurement:
    texts = texts_of(side.plan, references)
    scores = engine_scores(answers_key(side.point), side.plan, texts)
    return Measurement([], 0, 0, texts, answers=answers.texts, **scores)
