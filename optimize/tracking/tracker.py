"""MLflow as a mirror of the ledger: a parent run per study, a child run per trial.

The ledger on disk is the record; MLflow receives it afterwards, or from `python -m optimize.sync` if it could not be
reached. So a tracking server that is down costs no trial.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.config.schema import Tracking
from optimize.errors import DamagedFile, OptimizeError, one_line
from optimize.files import read_json, reading, write_atomically
from optimize.ledger import Ledger, TrialRecord
from optimize.study.info import StudyInfo
from optimize.tracking.background import Background
from optimize.tracking.dashboard import annotate
from optimize.tracking.mlflow_mirror import Mirror

if TYPE_CHECKING:
    import optuna

_PAUSE_S = 60.0
_SUMMARY = "summary.json"
"""File in the study's folder with the content of the parent run, for a sync to repeat."""


class Tracker:
    """A Mirror that never delays a study.

    It works in the background, while engines start and the sampler works, and pauses during measurements (`held`), so
    it may lag behind. It begins with the first trial, because the first engine would otherwise wait for MLflow's
    imports. A failure is reported once and left for the sync.

    Attributes:
        ledger: The study's folder, which knows what could not be read in it so far.
    """

    def __init__(
        self, tracking: Tracking, ledger: Ledger, info: StudyInfo, say: Callable[[str], None],
        agree: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        self._background = Background("tracking")
        self._mirror = Mirror(tracking, ledger, info, self._background.step, agree, say)
        self.ledger, self._say = ledger, say
        self._paused_until = 0.0
        self._opening: list[Callable[[], object]] = []

    def open(self, config_yaml: str) -> None:
        """Open the parent run, and end the child runs that a killed session left open, before everything else."""
        _import_slow_packages()
        self._opening.append(lambda: self._mirror.open_parent(config_yaml))
        for record in self.ledger.records():
            if record.ended_at is not None and not self._mirror.is_complete(self.ledger.trial_folder(record.number)):
                self._opening.append(partial(self._mirror.end, record))

    def begin(self, record: TrialRecord) -> None:
        opened = copy.deepcopy(record)  # the loop keeps writing to its record
        self._submit(lambda: self._mirror.begin(opened))

    def end(self, record: TrialRecord, trial: optuna.Trial | None = None) -> None:
        """Mirror an ended trial, and store its note for Optuna's dashboard if it is one of Optuna's."""
        if trial is not None:
            self._submit(lambda: annotate(trial, record))
        self._submit(lambda: self._mirror.end(record))

    def show(self, action: Callable[[], None]) -> None:
        """Run an action after everything tracked before it."""
        self._submit(action)

    def held(self) -> AbstractContextManager[None]:
        """Nothing is mirrored within; pending actions wait."""
        return self._background.held()

    def catch_up(self) -> None:
        """Wait until everything pending is mirrored or has failed."""
        self._start()
        self._background.catch_up()

    def close(self, metrics: Mapping[str, float], note: str, files: list[Path], status: str) -> None:
        """Mirror everything pending, and close the parent run."""
        summary = {"metrics": dict(metrics), "note": note, "status": status}
        write_atomically(self.ledger.folder / _SUMMARY, json.dumps(summary))
        self._submit(lambda: self._mirror.close_parent(metrics, note, files, status))
        self._background.finish()

    def _submit(self, action: Callable[[], object]) -> None:
        self._start()
        self._background.submit(partial(self._try, action))

    def _start(self) -> None:
        while self._opening:
            self._background.submit(partial(self._try, self._opening.pop(0)))

    def _try(self, action: Callable[[], object]) -> None:
        if time.monotonic() < self._paused_until:
            return
        try:
            action()
        except OptimizeError:
            raise
        except Exception as error:  # MLflow passes on any exception of its stores and transports
            self._paused_until = time.monotonic() + _PAUSE_S
            self._say(
                f"note: MLflow did not take the results ({one_line(error, 160)}); they are kept on disk, "
                "run python -m optimize.sync once it is back"
            )


def _import_slow_packages() -> None:
    """Imported here, not in the background: two threads can wait for each other's imports of one large package."""
    import optuna_dashboard  # noqa: F401


def summary_of(folder: Path) -> tuple[dict[str, float], str, str]:
    """(metrics, note, status) of a study's end; no metrics and no note if it was killed before."""
    path, remedy = folder / _SUMMARY, "the study's own command writes it anew"
    try:
        raw = read_json(path, remedy)
        with reading(path, remedy):
            if raw:
                return {k: float(v) for k, v in raw["metrics"].items()}, str(raw["note"]), str(raw["status"])
    except DamagedFile:
        pass  # as good as none: the run is mirrored without its result
    return {}, "", "FINISHED" if (folder / "report").is_dir() else "KILLED"
