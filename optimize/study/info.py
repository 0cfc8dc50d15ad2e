"""What a study states about itself: stored with it, so that it can be read without its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from objectives import Direction
from optimize.checkpoint import folder_on_disk, tensor_bytes
from optimize.config.measuring import BASELINE
from optimize.config.schema import Scenario
from optimize.decision.constraints import Limit
from optimize.files import read_json, reading, write_atomically
from optimize.plan import Plan
from optimize.redaction import redact_all, redacted
from optimize.workload.conversation import text_of
from optimize.workload.workload import Workload

if TYPE_CHECKING:
    import optuna
    from pydantic import TypeAdapter

ATTRIBUTE = "about"
"""User attribute of an Optuna study that holds its StudyInfo."""
FILE = "about.json"
"""File in a study's folder that holds its StudyInfo."""
_REMEDY = "the study's own command writes it anew"
_REQUIRED = {"scenario", "directions", "limits", "same_sample"}
"""Keys without which nothing can be recommended from a study; those of earlier versions may lack some of them."""


@dataclass(frozen=True)
class StudyInfo:
    """Description of a study.

    Fields that a study of an earlier version did not store have their defaults.

    Attributes:
        scenario: Name, title and weights of the objectives.
        directions: Objective -> which way it improves, in the order of Optuna's values.
        limits: The constraints.
        same_sample: Metrics that score the same prompts in every trial.
        model: Name of the model.
        hardware: Name of the hardware (`conf/hardware/`).
        machine_class: Class of the machines that trials may run on.
        engine_settings: Hash of the settings that all engines share; see `Plan.engine_settings`.
        signature: What every figure of the study depends on.
        tags: Tags of every MLflow run: study, model, usually the scenario.
        workload: Name, digest, source (path or Hugging Face id) and sizes of the workload, for MLflow's data set.
        scale: Bytes of the model, mean characters of a prompt, mean bound on an answer in tokens.
        saturation: Knob -> a value beyond which more of it changes little; see `SearchSpace.saturation`.
        glossary: Markdown: the meaning, unit and direction of each metric. Stored in the folder only.
    """

    scenario: Scenario = field(default_factory=Scenario)
    directions: Mapping[str, Direction] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    same_sample: tuple[str, ...] = ()
    model: str = ""
    hardware: str = ""
    machine_class: str = ""
    engine_settings: str = ""
    signature: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    workload: Mapping[str, Any] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    saturation: Mapping[str, float] = field(default_factory=dict)
    glossary: str = ""

    @property
    def machines(self) -> str:
        """Class of the machines; of studies that did not store it, the description of the first machine."""
        return self.machine_class or self.signature.get("machine", "")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> StudyInfo:
        """Read what `asdict` made of one, by this version or an earlier one.

        Raises:
            ValueError: a value is of another type than its field.
        """
        info: StudyInfo = _schema().validate_python(dict(raw))
        return info

    def write(self, folder: Path) -> None:
        """Write it to a study's folder."""
        write_atomically(folder / FILE, json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> StudyInfo:
        """Read it from a study's folder; the oldest of these files hold the tags alone.

        Raises:
            DamagedFile: it cannot be read.
        """
        raw = read_json(folder / FILE, _REMEDY)
        with reading(folder / FILE, _REMEDY):
            return cls.from_dict(raw if isinstance(raw.get("tags"), dict) else {"tags": raw})


@cache
def _schema() -> TypeAdapter[StudyInfo]:
    from pydantic import TypeAdapter

    return TypeAdapter(StudyInfo)


def make_info(plan: Plan, tags: Mapping[str, str] | None = None, glossary: str = "") -> StudyInfo:
    """The description of a planned study.

    Args:
        plan: The study's parts.
        tags: Tags of its MLflow runs; None for study, scenario and model.
        glossary: Markdown table of its metrics.
    """
    config, workload = plan.config, plan.workload
    sizes = {
        "prompts": len(workload.prompts),
        "max_tokens": workload.max_tokens,
        "scored": bool(workload.references) or plan.reference == BASELINE,
    }
    named = {"study": config.study.name, "scenario": config.scenario.name, "model": config.model.name}
    return StudyInfo(
        scenario=config.scenario,
        directions={name: objective.direction for name, objective in plan.objectives.items()},
        limits=tuple(plan.limits),
        same_sample=tuple(name for name, metric in plan.metrics.items() if metric.same_sample),
        model=config.model.name,
        hardware=config.hardware.name,
        machine_class=config.hardware.machine_class or plan.signature["machine"],
        engine_settings=plan.engine_settings(),
        signature=dict(plan.signature),
        tags=named if tags is None else dict(tags),
        workload={
            "name": workload.name, "digest": workload.hash, "sizes": sizes,
            "source": redacted(config.workload.where),
        },
        scale=_scale(config.model.path, workload),
        saturation=plan.space.saturation(plan.users) if plan.users is not None else {},
        glossary=glossary,
    )  # fmt: skip


def _scale(model: str, workload: Workload) -> dict[str, float]:
    """What decides how much another study resembles this one; the model's bytes are 0 where it is not on disk."""
    rows = range(len(workload.prompts))
    bounds = [workload.bound(row) for row in rows] if workload.output_tokens is None else workload.output_tokens
    return {
        "model_bytes": float(tensor_bytes(model)) if folder_on_disk(model) else 0.0,
        "prompt_characters": fmean([len(text_of(prompt)) for prompt in workload.prompts] or [0]),
        "answer_tokens": fmean(bounds or [0]),
    }


def store_info(study: optuna.Study, info: StudyInfo) -> None:
    """Store it with the study, in place of what was stored before."""
    study.set_user_attr(ATTRIBUTE, redact_all(asdict(info)))


def info_of(study: optuna.Study) -> StudyInfo:
    """Read it from the study; all fields have their defaults where nothing is stored.

    Raises:
        DamagedFile: what is stored is not what was written.
    """
    with reading(f"the description of study {study.study_name!r} in Optuna's storage", _REMEDY):
        return StudyInfo.from_dict(study.user_attrs.get(ATTRIBUTE, {}))


def is_readable(study: optuna.Study) -> bool:
    """Whether enough is stored to recommend from the study."""
    return set(study.user_attrs.get(ATTRIBUTE, ())) >= _REQUIRED
