"""The glossary of a study's metrics, for readers of MLflow."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from objectives import Objective
from optimize.formatting import markdown_line, markdown_text
from optimize.tracking.metric_keys import SCHEME


def glossary(metrics: Mapping[str, Objective], objectives: Mapping[str, Objective]) -> str:
    """A Markdown table of all metrics, objectives first, followed by the scheme of the metric keys.

    Args:
        metrics: Metric name -> what estimates it.
        objectives: Those that the search optimizes; their names are set in bold.
    """
    names = [*objectives, *(name for name in metrics if name not in objectives)]
    rows = [_row(name, metrics[name], name in objectives) for name in names]
    return "\n".join(["| metric | unit | better | meaning |", "|---|---|---|---|", *rows, SCHEME])


def _row(name: str, metric: Objective, objective: bool) -> str:
    better = "higher" if metric.direction == "maximize" else "lower"
    shown = markdown_text(name)
    return markdown_line([f"**{shown}**" if objective else shown, metric.unit or "1", better, meaning(metric)])


def meaning(metric: Objective) -> str:
    """The first paragraph of the metric's docstring, and the parameters of this instance in parentheses."""
    text = (inspect.getdoc(type(metric)) or "").split("\n\n")[0].replace("\n", " ")
    fields = {key: value for key, value in vars(metric).items() if value is not None and not key.startswith("_")}
    parameters = ", ".join(f"{key}={value}" for key, value in fields.items())
    return f"{text} ({markdown_text(parameters)})" if parameters else text
