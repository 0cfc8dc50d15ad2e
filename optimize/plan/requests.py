"""The requests of a study: those of its workload that its engines take, and when they are due."""

from __future__ import annotations

import dataclasses

import numpy as np

from optimize.config.measuring import ALL
from optimize.config.schema import StudyConfig
from optimize.engine.base import Launcher
from optimize.engine.remote import RemoteLauncher
from optimize.load.arrivals import Arrivals, Trace
from optimize.load.refused_rows import without_refused
from optimize.plan.flags import request_context
from optimize.search.space import SearchSpace
from optimize.traces.requests import Requests
from optimize.workload.fitting import fitted_workload
from optimize.workload.workload import Workload


def requests_of(
    config: StudyConfig, space: SearchSpace, launcher: Launcher, arrivals: Arrivals
) -> tuple[Workload, Arrivals]:
    """The workload without what no engine of the study takes, and a trace without the times of these requests.

    Raises:
        ConfigError: the workload cannot be read, or nothing of it is left.
    """
    recorded = _recorded(config, arrivals)
    fitted = fitted_workload(config, request_context(config, space, launcher), recorded, launcher.request_knobs_only)
    workload, rows = fitted.workload, fitted.rows
    if isinstance(launcher, RemoteLauncher) and workload.conversations is None:  # whose turns end by themselves
        workload, served = without_refused(workload, launcher.endpoint(), config.workload)
        if served is not None:
            rows = np.array(served) if rows is None else rows[served]
    if isinstance(arrivals, Trace):
        workload = dataclasses.replace(workload, notes=[arrivals.note, *workload.notes])
        arrivals = arrivals if recorded is None or rows is None else arrivals.only(rows)
    if config.model.random is not None:  # without references, nothing scores the meaningless answers
        workload = dataclasses.replace(workload, references=[])
    return workload, arrivals


def _recorded(config: StudyConfig, arrivals: Arrivals) -> Requests | None:
    """What a trace says of its requests; of conversations sent turn by turn it says only when they arrive."""
    if not isinstance(arrivals, Trace) or config.workload.turns == ALL:
        return None
    return arrivals.requests if arrivals.has_contents else None
