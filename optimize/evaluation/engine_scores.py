"""What the live engine itself is asked for once the load is over, beside the answers that the load received."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimize.engine.base import Engine
from optimize.evaluation.perplexity import logprobs_of
from optimize.evaluation.task_scores import task_scores_of
from optimize.plan import Plan


def engine_scores(
    answers_key: str, plan: Plan, references: Mapping[int, str], engine: Engine | None = None
) -> dict[str, Any]:
    """Field of a measurement -> its content, as far as the plan's metrics need it.

    Args:
        answers_key: Key of the configuration; see `optimize.evaluation.answers.answers_key`.
        plan: Workload, metrics, cache.
        references: Workload row -> reference answer.
        engine: The live engine; None reads the cache alone.

    Raises:
        EngineFailure: the engine died.
        TransientFault: the engine did not answer.
    """
    return {
        "reference_logprobs": logprobs_of(answers_key, plan, references, engine),
        "task_scores": task_scores_of(answers_key, plan, engine),
    }
