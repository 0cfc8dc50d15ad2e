"""Does a model behind the live engine score in a task as the harness's own transformers backend does, and does INT4?

Usage: python -m benchmarks.accuracy [model=demo ...] [objectives.accuracy.tasks=[everyday] ...]
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, engine_of, provenance, require_quiet
from objectives import Measurement
from objectives.accuracy import Accuracy
from optimize.config.compose import configuration
from optimize.engine.base import EngineConfig
from optimize.evaluation.task_scores import longest_sequence
from optimize.formatting import markdown_line
from optimize.harness.process import Backend, TaskResult, evaluate, located, served_by
from optimize.plan import Plan, make_plan

RECIPES = ("published", "fp32", "int8", "int4")
_READABLE = ("published", "fp32")
"""Recipes whose checkpoints transformers computes as the engine does."""
_OVERRIDES = [
    "+study=chat", "objectives=[qps,p99_latency_s,memory_bytes,accuracy]", "constraints=none",
    f"search_space.quantization.choices=[{','.join(RECIPES)}]",
]  # fmt: skip
_HEAD = (
    "recipe", "data type", "live engine", "transformers", "difference, points", "documents that differ",
    "engine, s", "transformers, s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One evaluation of a model: its results, the data type of its computation, and the seconds that it took."""

    results: dict[str, TaskResult]
    dtype: str
    seconds: float

    @property
    def scores(self) -> list[float]:
        return [score for result in self.results.values() for score in result.scores]

    def measured(self, accuracy: Accuracy) -> Measurement:
        scores = {task: result.scores for task, result in self.results.items()}
        return Measurement([], 0, 0, {}, task_scores={accuracy.key: scores})


@dataclass(frozen=True, slots=True)
class Comparison:
    """A checkpoint behind the live engine, and in transformers where that reads it."""

    recipe: str
    ours: Run
    theirs: Run | None


def compare(plan: Plan, accuracy: Accuracy) -> Iterator[Comparison]:
    for recipe in RECIPES:
        config = engine_of(plan.config, {"quantization": recipe})
        ours = _through_engine(plan, accuracy, config)
        readable = recipe in _READABLE
        yield Comparison(recipe, ours, _through_transformers(config, accuracy, ours.dtype) if readable else None)


def _through_engine(plan: Plan, accuracy: Accuracy, config: EngineConfig) -> Run:
    with TemporaryDirectory() as folder:
        engine = plan.launcher.launch(config, Path(folder) / "log")
        try:
            began = time.monotonic()
            backend = served_by(engine.endpoint, plan.config.model.path, longest_sequence(engine.endpoint))
            results = evaluate(accuracy, backend, engine.check)
            dtype = str(engine.effective(["dtype"]).get("dtype", "")).removeprefix("torch.")
            return Run(results, dtype, time.monotonic() - began)
        finally:
            engine.stop()


def _through_transformers(config: EngineConfig, accuracy: Accuracy, dtype: str) -> Run:
    arguments = {"pretrained": located(config.checkpoint), "dtype": dtype, "device": "cpu", "batch_size": 16}
    began = time.monotonic()
    return Run(evaluate(accuracy, Backend("hf", arguments)), dtype, time.monotonic() - began)


def row_of(accuracy: Accuracy, comparison: Comparison) -> list[str]:
    """One line of the table."""
    ours, theirs = comparison.ours, comparison.theirs
    cells = [comparison.recipe, ours.dtype, _percent(accuracy, ours)]
    if theirs is None:
        return [*cells, "", "", "", f"{ours.seconds:.0f}", ""]
    differing = sum(one != other for one, other in zip(ours.scores, theirs.scores, strict=True))
    seconds = [f"{run.seconds:.0f}" for run in (ours, theirs)]
    return [*cells, _percent(accuracy, theirs), _points(accuracy, ours, theirs), str(differing), *seconds]


def agreement(comparison: Comparison) -> str:
    """Whether the two figures agree within the standard error of one of them; nothing where there is one alone."""
    if comparison.theirs is None:
        return ""
    ours, theirs = comparison.ours.scores, comparison.theirs.scores
    error = statistics.stdev(theirs) / math.sqrt(len(theirs))
    gap = statistics.fmean(ours) - statistics.fmean(theirs)
    word = "within" if abs(gap) <= error else "beyond"
    return (
        f"- `{comparison.recipe}`: the live engine is {100 * gap:+.2f} points from transformers, {word} one standard "
        f"error ({100 * error:.2f} points, n = {len(theirs)})."
    )


def loss(accuracy: Accuracy, ours: Comparison, first: Comparison) -> str:
    """The loss of a recipe against the first, in pairs of documents."""
    paired = accuracy.paired(ours.ours.measured(accuracy), first.ours.measured(accuracy))
    assert paired is not None
    points = _points(accuracy, ours.ours, first.ours)
    return f"- `{ours.recipe}` less `{first.recipe}`: {points} points, p = {paired.p:.3f}."


def page(plan: Plan, accuracy: Accuracy, comparisons: Sequence[Comparison], command: str) -> str:
    first, *others = comparisons
    table = [_HEAD, ["---"] * len(_HEAD), *(row_of(accuracy, comparison) for comparison in comparisons)]
    return "\n".join([
        "# Accuracy through the engine", "", provenance(command), "",
        f"Model {plan.config.model.name}; {plan.signature['tasks']}. The harness asks the live engine for the "
        "log-probabilities of its prompts' tokens, and its own transformers backend for the same ones.", "",
        *map(markdown_line, table), "",
        *filter(None, map(agreement, comparisons)),
        *(loss(accuracy, comparison, first) for comparison in others), "",
    ])  # fmt: skip


def _percent(accuracy: Accuracy, run: Run) -> str:
    estimate = accuracy.estimate(run.measured(accuracy))
    assert estimate is not None
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _points(accuracy: Accuracy, ours: Run, theirs: Run) -> str:
    paired = accuracy.paired(ours.measured(accuracy), theirs.measured(accuracy))
    assert paired is not None
    gap = paired.difference
    return f"{100 * gap.value:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"


def main(overrides: Sequence[str]) -> None:
    require_quiet()
    with TemporaryDirectory() as folder:
        plan = make_plan(configuration([*_OVERRIDES, *overrides, f"output_dir={folder}"]))
    accuracy = plan.metrics["accuracy"]
    assert isinstance(accuracy, Accuracy)
    plan.launcher.prepare()
    try:
        comparisons = list(compare(plan, accuracy))
    finally:
        plan.launcher.close()
    text = page(plan, accuracy, comparisons, " ".join(["python -m benchmarks.accuracy", *overrides]))
    (RESULTS / "accuracy.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
