"""Accuracy in tasks with known answers, as a harness scores the served model in them; no answer of the load counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from objectives.base import Estimate, Measurement
from objectives.intervals import proportion_interval
from objectives.segments import Floats, SegmentScore


@dataclass
class Accuracy(SegmentScore):
    """Mean of the accuracies in one or several tasks of EleutherAI's lm-evaluation-harness.

    Each task weighs the same, however many documents it has; those of a group of tasks (`mmlu`) count as one task's.
    The live engine answers them after the load; see `optimize.evaluation.task_scores`.

    Attributes:
        tasks: Names of tasks or groups, as the harness lists them.
        metric: Name of one of the tasks' own metrics between 0 and 1 (`acc`, `acc_norm`, `exact_match`); null for
            `acc` where a task has it, else for its first.
        limit: Number of documents of each task, from the first on; null for all.
        num_fewshot: Number of solved examples before each question; null for the task's own.
        include_path: Folder of your own tasks' YAML files, whose data files are relative to it; null for the tasks
            that come with this project.
    """

    tasks: list[str] = field(default_factory=lambda: ["everyday"])
    metric: str | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    include_path: str | None = None

    unit = "share"
    scale = (0.0, 1.0)
    from_workload = False

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks must name at least one task, and each once, got {self.tasks}")
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"limit must be at least 2, got {self.limit}")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise ValueError(f"num_fewshot must not be negative, got {self.num_fewshot}")

    @property
    def key(self) -> str:
        """Key of its scores in a measurement."""
        return json.dumps(asdict(self), sort_keys=True)

    def statistics(self, measurement: Measurement) -> dict[int, Floats]:
        """Row -> (score, 1) in the two places of its task and zeros elsewhere, shape (2 tasks,).

        A document's row is its number times the number of tasks, plus the number of its task.
        """
        scores = measurement.task_scores.get(self.key, {})
        tasks, table = len(self.tasks), dict[int, Floats]()
        for place, task in enumerate(self.tasks):
            for document, score in enumerate(scores.get(task, ())):
                row = np.zeros(2 * tasks)
                row[2 * place : 2 * place + 2] = score, 1.0
                table[document * tasks + place] = row
        return table

    def score(self, totals: Floats) -> float:
        return float(self._scores(totals[np.newaxis])[0])

    def estimate(self, measurement: Measurement) -> Estimate | None:
        """The mean, with Wilson's interval where it is a share of one task's documents, else with the bootstrap's."""
        scores = np.concatenate([np.zeros(0), *measurement.task_scores.get(self.key, {}).values()])
        if len(self.tasks) > 1 or len(scores) < 2 or not np.isin(scores, (0.0, 1.0)).all():
            return super().estimate(measurement)
        return Estimate(*proportion_interval(int(scores.sum()), len(scores)), n=len(scores), unit=self.unit)

    def _scores(self, totals: Floats) -> Floats:
        """Means over the tasks of which a resample holds documents, of totals of shape (n, 2 tasks)."""
        points, documents = totals[:, ::2], totals[:, 1::2]
        drawn = documents > 0
        shares = np.divide(points, documents, out=np.zeros_like(points), where=drawn)
        means: Floats = shares.sum(axis=1) / np.maximum(drawn.sum(axis=1), 1)
        return means
