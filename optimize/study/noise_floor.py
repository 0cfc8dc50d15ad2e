"""How nearly the model that gave the reference repeats itself: the figures that a loss of quality is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from objectives import Estimate
from optimize.files import reading
from optimize.formatting import figure, title_of

if TYPE_CHECKING:
    import optuna

_ATTRIBUTE = "noise_floor"
_REMEDY = "the study's own command writes it anew"


@dataclass(frozen=True)
class NoiseFloor:
    """The noise floor of a study.

    Attributes:
        scores: Metric -> score of the model's further answers against its first.
        prompts: Number of prompts.
        runs: How often each was answered.
        seconds: What that cost, once.
    """

    scores: Mapping[str, Estimate] = field(default_factory=dict)
    prompts: int = 0
    runs: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "scores": {name: estimate.to_dict() for name, estimate in self.scores.items()}}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> NoiseFloor:
        scores = {name: Estimate.from_dict(estimate) for name, estimate in raw["scores"].items()}
        return cls(scores, int(raw["prompts"]), int(raw["runs"]), float(raw["seconds"]))

    def in_words(self, names: Sequence[str]) -> str:
        """The floors of these metrics, and what they mean; empty where none of them has one."""
        scored = [name for name in dict.fromkeys(names) if name in self.scores]
        floors = ", ".join(f"{title_of(name)} {figure(self.scores[name])}" for name in scored)
        return f"its own repeats reach {floors}, and a loss within that noise counts as none" if floors else ""

    def cost(self) -> str:
        return f"{self.prompts} prompts answered {self.runs} times in {self.seconds:.0f} s"


def store_noise_floor(study: optuna.Study, floor: NoiseFloor) -> None:
    study.set_user_attr(_ATTRIBUTE, floor.to_dict())


def noise_floor_of(study: optuna.Study) -> NoiseFloor | None:
    """Read it from the study; None where answers are scored against the workload's references.

    Raises:
        DamagedFile: what is stored is not what was written.
    """
    raw = study.user_attrs.get(_ATTRIBUTE)
    if raw is None:
        return None
    with reading(f"the noise floor of study {study.study_name!r} in Optuna's storage", _REMEDY):
        return NoiseFloor.from_dict(raw)
