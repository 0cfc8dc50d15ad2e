"""Quality of a table's rows: over the answers of all rounds, and paired with the previous and the first row."""

from __future__ import annotations

from collections.abc import Mapping

from objectives import Measurement
from objectives.segments import SegmentScore
from optimize.config.measuring import BASELINE
from optimize.evaluation.answers import AnswerStore
from optimize.evaluation.engine_scores import engine_scores
from optimize.evaluation.references import kept_references, texts_of
from optimize.plan import Plan
from optimize.tables.comparison import Quality


def quality_of(keys: Mapping[int, str], plan: Plan, answers: AnswerStore) -> dict[int, Quality]:
    """Row -> its quality.

    Args:
        keys: Row -> key of its answers.
        plan: Workload and metrics.
        answers: The answers of all rounds.
    """
    references = texts_of(plan, kept_references(plan) if plan.reference == BASELINE else None)
    scores = {
        name: metric
        for name, metric in plan.metrics.items()
        if isinstance(metric, SegmentScore) and (references or not metric.from_workload)
    }
    if not scores:
        return {}
    measurements = {
        row: Measurement([], 0, 0, references, answers=answers.of(key), **engine_scores(key, plan, references))
        for row, key in keys.items()
    }
    quality, rows = {}, sorted(measurements)
    for row, measurement in measurements.items():
        others = dict.fromkeys([rows[0], *(other for other in rows if other < row)][-1:] + [rows[0]])
        paired = {
            other: {name: p for name, score in scores.items() if (p := score.paired(measurement, measurements[other]))}
            for other in others
            if other != row
        }
        levels = {name: e for name, score in scores.items() if (e := score.estimate(measurement)) is not None}
        quality[row] = Quality(levels, paired)
    return quality
