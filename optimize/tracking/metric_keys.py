"""The metric keys of MLflow runs, chosen so that its own tools sort, chart and compare them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from optimize.engine.metrics import ENGINE_SERIES
from optimize.ledger import TrialRecord

Points = list[tuple[float, int, float]]
"""(Unix time, step, value) of one metric."""
EXPERIMENT_NOTE = """A run per study, a child run per trial, by `python -m optimize`. Each study's run explains metrics.

- trials of one study: `tags.study = 'chat' and tags.role != 'study'`; of one scenario: `tags.scenario = 'chat'`
- measured trials: `tags.outcome = 'completed'`; feasible ones, which keep every constraint: `tags.feasible = 'true'`
- recommendations side by side: `tags.role = 'study'`, columns `recommended/…` and `gain/…`

To compare trials, select them and choose Compare: their parameters are the knobs alone.
"""
SCHEME = """
| metric key | meaning |
|---|---|
| `<metric>` | figure of the trial |
| `interval/<metric>.low`, `.high` | ends of its 95 % interval |
| `load/<name>` | the engine's own metrics during the load |
| `system/<name>` | processors and GPUs during the load: the tab "System metrics" |
| `seconds/<phase>` | time of each phase of the trial |
| `audit/<name>` | accuracy of the client's schedule |
| `recommended/<metric>` | study: the recommended figures |
| `gain/<objective>` | study: improvement factor over vLLM's defaults; above 1 is better |
| `score`, `trials`, `measured`, `feasible`, `cost/<name>` | study: weighted score, number of trials, time spent |

Steps of `load/` and `system/` are milliseconds since the load began; their timestamps are those of the clock.
"""


def valid_key(name: str) -> str:
    """A name as MLflow takes it for a key: letters, digits and `_-. :/`; others become "_"."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def figures_of(record: TrialRecord) -> dict[str, float]:
    """Metric key -> value: everything of a trial that is a single number."""
    estimates = record.estimates.items()
    ends = {f"interval/{name}.{end}": float(getattr(e, end)) for name, e in estimates for end in ("low", "high")}
    return {
        **{name: e.value for name, e in estimates},
        **ends,
        **{f"seconds/{name}": value for name, value in record.seconds.items()},
        **{f"audit/{name}": float(value) for name, value in record.audit.items() if value is not None},
    }


def _load_began(record: TrialRecord) -> float:
    """Unix time of the load's beginning, the zero of the telemetry's clock."""
    return (record.ended_at or time.time()) - sum(
        record.seconds.get(phase, 0.0) for phase in ("warmup", "window", "drain")
    )


def in_time(series: Mapping[str, list[tuple[float, float]]], record: TrialRecord) -> dict[str, Points]:
    """Metric key -> telemetry at Unix times, with milliseconds as steps; MLflow's UI groups charts by the keys."""
    began = _load_began(record)
    return {
        f"{'load' if name in ENGINE_SERIES else 'system'}/{name}": [(began + t, round(t * 1000), v) for t, v in points]
        for name, points in series.items()
    }
