"""What the runs of one study have in common, for readers of MLflow: tags, the workload, what the metrics mean."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from objectives import Objective
from optimize.files import write_atomically
from optimize.plan import Plan
from optimize.tracking.metric_keys import SCHEME

FILE = "about.json"


@dataclass(frozen=True)
class About:
    """What a tracker is told of a study beside its trials.

    Attributes:
        tags: Tags of every run: study, scenario, model.
        workload: Of the workload: name, digest, source (path or Hugging Face id) and its sizes; empty if not known.
        glossary: Markdown: what each metric means, its unit and which way it improves.
    """

    tags: Mapping[str, str]
    workload: Mapping[str, Any] = field(default_factory=dict)
    glossary: str = ""

    def write(self, folder: Path) -> None:
        write_atomically(folder / FILE, json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> About:
        """Of a study's folder; those of earlier versions hold the tags alone."""
        raw = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return cls(**raw) if isinstance(raw.get("tags"), dict) else cls(raw)


def about(plan: Plan, tags: Mapping[str, str]) -> About:
    """All there is to say before the first trial."""
    workload, source = plan.workload, plan.config.workload
    sizes = {"prompts": len(workload.prompts), "max_tokens": workload.max_tokens, "scored": bool(workload.references)}
    return About(
        tags=tags,
        workload={"name": workload.name, "digest": workload.hash, "source": source.path, "sizes": sizes},
        glossary=glossary(plan.metrics, plan.objectives),
    )


def glossary(metrics: Mapping[str, Objective], objectives: Mapping[str, Objective]) -> str:
    """A table of all metrics, objectives first, then the scheme of the keys."""
    names = [*objectives, *(name for name in metrics if name not in objectives)]
    rows = [_row(name, metrics[name], name in objectives) for name in names]
    return "\n".join(["| metric | unit | better | meaning |", "|---|---|---|---|", *rows, SCHEME])


def _row(name: str, metric: Objective, objective: bool) -> str:
    better = "higher" if metric.direction == "maximize" else "lower"
    return f"| {f'**{name}**' if objective else name} | {metric.unit or '1'} | {better} | {meaning(metric)} |"


def meaning(metric: Objective) -> str:
    """The first sentence of its docstring, with the parameters it was given."""
    text = (inspect.getdoc(type(metric)) or "").split("\n\n")[0].replace("\n", " ")
    fields = {key: value for key, value in vars(metric).items() if value is not None and not key.startswith("_")}
    given = ", ".join(f"{key}={value}" for key, value in fields.items())
    return f"{text} ({given})" if given else text
