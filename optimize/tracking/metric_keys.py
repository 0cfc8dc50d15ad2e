"""Under which keys MLflow is told what, so that its own tools sort, chart and compare runs."""

from __future__ import annotations

import time
from collections.abc import Mapping

from optimize.engine.metrics import ENGINE_SERIES
from optimize.ledger import TrialRecord

Points = list[tuple[float, int, float]]
"""(Unix time, step, value) of one metric."""
EXPERIMENT_NOTE = """A run per study, a child run per trial, by `python -m optimize`. A study's run explains metrics.

- one study's trials: `tags.study = 'chat' and tags.role != 'study'`; one scenario's: `tags.scenario = 'chat'`
- measurements only: `tags.outcome = 'completed'`; those that keep every constraint: `tags.feasible = 'true'`
- the recommendations side by side: `tags.role = 'study'`, columns `recommended/…` and `gain/…`

To compare trials, select them and choose Compare: parameters are the knobs, and nothing else.
"""
SCHEME = """
| metric key | what it is |
|---|---|
| `<metric>` | the trial's figure |
| `interval/<metric>.low`, `.high` | ends of its 95 % interval |
| `load/<name>` | what the engine said of itself, over the load |
| `system/<name>` | processors and GPUs over the load: the tab "System metrics" |
| `seconds/<phase>` | where the trial's time went |
| `audit/<name>` | how well the client kept its schedule |
| `recommended/<metric>`, `gain/<objective>` | of a study: the recommended figures, their gain over vLLM's defaults |
| `score`, `trials`, `measured`, `feasible`, `cost/<name>` | of a study: its result in one number, and what was spent |

Steps of `load/` and `system/` are milliseconds since the load began; their times are the clock's.
"""


def figures_of(record: TrialRecord) -> dict[str, float]:
    """Metric key -> value: all of a trial that is one number."""
    estimates = record.estimates.items()
    ends = {f"interval/{name}.{end}": float(getattr(e, end)) for name, e in estimates for end in ("low", "high")}
    return {
        **{name: e.value for name, e in estimates},
        **ends,
        **{f"seconds/{name}": value for name, value in record.seconds.items()},
        **{f"audit/{name}": float(value) for name, value in record.audit.items() if value is not None},
    }


def _load_began(record: TrialRecord) -> float:
    """Unix time at which the load began, where the telemetry's clock stands at zero."""
    return (record.ended_at or time.time()) - sum(
        record.seconds.get(phase, 0.0) for phase in ("warmup", "window", "drain")
    )


def in_time(series: Mapping[str, list[tuple[float, float]]], record: TrialRecord) -> dict[str, Points]:
    """Telemetry under the keys by which MLflow's UI sorts charts, at the clock's time; steps are milliseconds."""
    began = _load_began(record)
    return {
        f"{'load' if name in ENGINE_SERIES else 'system'}/{name}": [(began + t, round(t * 1000), v) for t, v in points]
        for name, points in series.items()
    }
