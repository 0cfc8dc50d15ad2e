"""How the answers of a measurement compare with the baseline's, in pairs of answers to the same prompts."""

from __future__ import annotations

import dataclasses
from typing import Any

from objectives import Measurement
from objectives.segments import Paired, SegmentScore
from optimize.evaluation.answers import AnswerStore
from optimize.evaluation.engine_scores import engine_scores
from optimize.evaluation.references import References, scores_of
from optimize.plan import Plan


def paired_with_baseline(
    measurement: Measurement, baseline: bool, answers: AnswerStore, plan: Plan, references: References | None = None
) -> dict[str, Any]:
    """Metric -> `Paired` with the study's baseline as a dictionary, on the rows that both answered.

    Args:
        measurement: The measurement.
        baseline: Whether it is the baseline's own.
        answers: The study's answers so far, those of `measurement` included.
        plan: The metrics.
        references: The unquantized model's answers where `measurement` is scored against them: its further answers then
            take the place of the baseline's.
    """
    scores = {name: m for name, m in plan.metrics.items() if isinstance(m, SegmentScore)}
    compared = (
        {}
        if references is None
        else {name: beyond_noise(m, measurement, references) for name, m in scores_of(plan.metrics).items()}
    )
    defaults = measurement if baseline else _of_baseline(measurement, answers, plan)
    others = (
        {} if defaults is None else {n: m.paired(measurement, defaults) for n, m in scores.items() if n not in compared}
    )
    return {name: paired.to_dict() for name, paired in {**compared, **others}.items() if paired is not None}


def beyond_noise(score: SegmentScore, measurement: Measurement, references: References) -> Paired | None:
    """The score against that of the further answers of the model that gave the reference.

    These differ from the reference by noise alone, so the difference is what goes beyond noise. It counts as none where
    it is no larger than what the noise floor itself is uncertain by.
    """
    paired, floor = score.paired(measurement, *references.repeats), score.floor(references.repeats)
    if paired is None or floor is None:
        return paired
    return dataclasses.replace(paired, tolerance=max(floor.value - floor.low, floor.high - floor.value))


def _of_baseline(measurement: Measurement, answers: AnswerStore, plan: Plan) -> Measurement | None:
    if answers.baseline is None:
        return None
    texts, scores = answers.of(answers.baseline), engine_scores(answers.baseline, plan, measurement.references)
    return Measurement([], 0, 0, measurement.references, answers=texts, **scores)
