"""What the answers to a workload are scored against: its references, or the answers of the unquantized model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from objectives import Objective
from objectives.quality import UserMetric, needs_references
from optimize.checkpoint import own_answers
from optimize.config.measuring import AUTO, BASELINE, WORKLOAD
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.workload.workload import Prompt, Workload


def reference_of(config: StudyConfig, workload: Workload, judged: Sequence[Objective]) -> str:
    """WORKLOAD or BASELINE; the model is asked for itself only where an objective or a constraint needs references.

    Args:
        config: The configuration.
        workload: The workload.
        judged: The objectives, and the metrics that a constraint bounds.
    """
    if config.model.random is not None:  # whose answers mean nothing
        return WORKLOAD
    if config.quality.reference != AUTO:
        return config.quality.reference
    return BASELINE if any(map(needs_references, judged)) and not workload.references else WORKLOAD


def signature_of(config: StudyConfig, reference: str) -> dict[str, str]:
    """The part of a signature that says what scores are against; nothing where that is the workload's references."""
    return {"quality": f"against {own_answers(config.model.path)}"} if reference == BASELINE else {}


def check_scores(
    workload: Workload, reference: str, objectives: Mapping[str, Objective], metrics: Mapping[str, Objective],
    bounded: Sequence[str],
) -> None:  # fmt: skip
    """Refuse what cannot be scored.

    Args:
        workload: The workload.
        reference: WORKLOAD or BASELINE.
        objectives: The objectives.
        metrics: All metrics.
        bounded: Names of those that a constraint bounds.

    Raises:
        ConfigError: there are no references, or a function of the user's fails.
    """
    if workload.references or reference == BASELINE:
        _check_functions(workload, metrics)
        return
    why = "answers cannot be scored (no references, or lengths that are set)"
    for name, objective in objectives.items():
        if needs_references(objective):
            others = ",".join(n for n, o in objectives.items() if not needs_references(o))
            raise ConfigError(
                f"objectives.{name}: {why}: name the column of the references, workload.reference_column=..., or the "
                f"other objectives, objectives=[{others}]"
            )
    for name in bounded:
        if needs_references(metrics[name]):
            raise ConfigError(f"constraints.{name}: {why}: remove it, e.g. constraints.{name}=null")


def _check_functions(workload: Workload, metrics: Mapping[str, Objective]) -> None:
    """Score a perfect answer with each function of the user's: a broken one is known before an engine starts."""
    what = "reference" if workload.references else "prompt"
    text = workload.references[0] if workload.references else _text_of(workload.prompts[0])
    for name, metric in metrics.items():
        if isinstance(metric, UserMetric):
            try:
                metric.of(text, text)
            except ValueError as error:
                raise ConfigError(f"{name}: cannot score the workload's first {what}: {error}") from error


def _text_of(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
