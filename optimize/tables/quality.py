"""Quality of a table's rows: on all answers that the rounds gave, and in pairs with the row before and the first."""

from __future__ import annotations

from collections.abc import Mapping

from objectives import Measurement
from objectives.segments import SegmentScore
from optimize.evaluation.answers import AnswerStore
from optimize.evaluation.perplexity import logprobs_of
from optimize.plan import Plan
from optimize.tables.comparison import Quality


def quality_of(keys: Mapping[int, str], plan: Plan, answers: AnswerStore) -> dict[int, Quality]:
    """Row -> its quality.

    Args:
        keys: Row -> what its answers depend on.
        plan: Workload and metrics.
        answers: What the rounds were answered.
    """
    references = dict(enumerate(plan.workload.references))
    scores = {name: m for name, m in plan.metrics.items() if isinstance(m, SegmentScore)}
    if not references or not scores:
        return {}
    seen = {
        row: Measurement([], 0, 0, references, answers=answers.of(key), reference_logprobs=logprobs_of(key, plan))
        for row, key in keys.items()
    }
    found, before = {}, sorted(seen)
    for row, measurement in seen.items():
        others = dict.fromkeys([before[0], *(other for other in before if other < row)][-1:] + [before[0]])
        paired = {
            other: {name: p for name, score in scores.items() if (p := score.paired(measurement, seen[other]))}
            for other in others
            if other != row
        }
        levels = {name: e for name, score in scores.items() if (e := score.estimate(measurement)) is not None}
        found[row] = Quality(levels, paired)
    return found
