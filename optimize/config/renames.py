"""Names that users may have in their YAML, their notebooks or from other tools, and what each of them is called here.

Python asks the finder below only for modules that nothing else provides, so an old name is answered with the new one
instead of "No module named ...".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import NoReturn

MOVED = {
    "optimize.build": "optimize.config.instantiate",
    "optimize.evaluate": "optimize.evaluation.evaluator",
    "optimize.exhaustive": "optimize.search.grid_sampler",
    "optimize.lengths": "optimize.workload.lengths",
    "optimize.load.fitting": "optimize.workload.fitting",
    "optimize.load.lengths": "optimize.workload.lengths",
    "optimize.load.tokens": "optimize.workload.tokens",
    "optimize.load.workload": "optimize.workload.workload",
    "optimize.loop": "optimize.driver.loop",
    "optimize.pages": "optimize.ui",
    "optimize.perplexity": "optimize.evaluation.perplexity",
    "optimize.random_model": "optimize.model.random_weights",
    "optimize.reading": "optimize.report.dataframes",
    "optimize.report.conclude": "optimize.report.summary",
    "optimize.run": "optimize.driver.run",
    "optimize.samplers": "optimize.search.gp_sampler",
    "optimize.schema": "optimize.config.schema",
    "optimize.schema_measuring": "optimize.config.measuring",
    "optimize.schema_serving": "optimize.config.deploy",
    "optimize.signature": "optimize.hardware",
    "optimize.space": "optimize.search.space",
    "optimize.storage": "optimize.study.storage",
    "optimize.telemetry": "optimize.evaluation.telemetry",
    "optimize.trials": "optimize.study.trials",
}

SETTINGS = {
    "load.keep": "load.arrivals.keep",
    "load.part": "load.arrivals.part",
    "load.speed": "load.arrivals.speed",
    "load.speedup": "load.arrivals.speed",
    "load.trace": "load=trace load.arrivals.path",
    "workload.fit_context": "workload.too_long=leave_out",
}
"""Settings by names that suggest themselves, and where they are."""

REMOVED = {
    "load.window_look_s": "windows are measured in full now: leave it out",
    "study.cut_short": "windows are measured in full now: leave it out",
}
"""Settings of earlier versions, and what those who have them do."""


class _Renames(MetaPathFinder):
    """Answers the import of a module that has moved with its new name."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> NoReturn | None:
        if fullname in MOVED:
            # Without `name`, or `from optimize import lengths` would swallow the message.
            raise ModuleNotFoundError(f"{fullname} is now {MOVED[fullname]}")
        return None


def install() -> None:
    """Have Python ask this module for names that nothing else provides; once, however often it is called."""
    if not any(isinstance(finder, _Renames) for finder in sys.meta_path):
        sys.meta_path.append(_Renames())


install()
