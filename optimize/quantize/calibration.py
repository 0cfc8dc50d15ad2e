"""The samples that activations are observed on: prompts of the workload, with their reference answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optimize.workload.workload import Prompt, Workload

Sample = str | list[dict[str, Any]]


@dataclass(frozen=True)
class Calibration:
    """Samples to observe activations on: text as the model sees it, or chat messages."""

    samples: Sequence[Sample]

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over the samples."""
        raw = json.dumps(list(self.samples), ensure_ascii=False)
        return hashlib.sha256(raw.encode()).hexdigest()[:12]

    def take(self, number: int) -> Calibration:
        """A fixed, evenly spread selection of `number` samples; all where there are fewer."""
        rows = len(self.samples)
        if rows <= number:
            return self
        return Calibration([self.samples[i * rows // number] for i in range(number)])


def calibration_of(workload: Workload) -> Calibration:
    """Every prompt of a workload, followed by its reference where there is one."""
    answers: Sequence[str | None] = workload.references or [None] * len(workload.prompts)
    return Calibration([_sample(p, a) for p, a in zip(workload.prompts, answers, strict=True)])


def _sample(prompt: Prompt, answer: str | None) -> Sample:
    if isinstance(prompt, str):
        return prompt + (answer or "")
    return [*prompt, *([{"role": "assistant", "content": answer}] if answer is not None else [])]
