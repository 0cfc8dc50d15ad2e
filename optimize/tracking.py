"""MLflow as a mirror of the ledger: a parent run per study, a child run per trial.

The ledger on disk is what happened; MLflow is told afterwards, and told again by `python -m optimize.sync` where it
could not be reached. So a tracking server that is down costs no trial.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.background import Background
from optimize.errors import OptimizeError, redacted
from optimize.ledger import SEARCH, Ledger, TrialRecord, write_atomically
from optimize.schema import Tracking

if TYPE_CHECKING:
    import optuna
    from mlflow import MlflowClient

_STATE = "mlflow.json"
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_NOTE = "mlflow.note.content"
_LOGGED = ("trial.json", "found.json", "engine.log", "requests.parquet", "telemetry.parquet")
_STATUS = {"completed": "FINISHED", "infeasible": "FINISHED", "failed": "FAILED"}
_BATCH = 500
_PAUSE_S = 60.0
# An unreachable server must cost seconds, not the minutes of MLflow's defaults.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Mirror:
    """Writes trials and studies to MLflow; every call is safe to repeat.

    Args:
        tracking: Where to.
        ledger: The study's folder.
        tags: Tags of the parent run, of every child run too.
        step: Called before every call of MLflow; may hold it back.
        agree: From the id of a parent run just made to the one that all drivers of the study use.
    """

    def __init__(
        self, tracking: Tracking, ledger: Ledger, tags: Mapping[str, str], step: Callable[[], None] = lambda: None,
        agree: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        self._tracking, self._ledger, self._tags, self._step = tracking, ledger, dict(tags), step
        self._agree = agree
        self._opened: MlflowClient | None = None

    @property
    def _client(self) -> MlflowClient:
        self._step()
        if self._opened is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient

            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(logging.ERROR)
            self._opened = MlflowClient(tracking_uri=self._tracking.uri)
        return self._opened

    def open_parent(self, config_yaml: str | None = None) -> str:
        """The study's parent run, made or reopened; returns its id."""
        state = self._state(self._ledger.folder)
        if state is None:
            run = self._client.create_run(
                self._experiment(), tags={**self._tags, _NAME: self._tags["study"], "role": "study"}
            )
            run_id = self._agree(run.info.run_id)
            if run_id != run.info.run_id:
                self._client.delete_run(run.info.run_id)
            state = self._remember(self._ledger.folder, run_id, complete=False)
        else:
            self._client.update_run(state["run_id"], status="RUNNING")
        if config_yaml is not None:
            self._client.log_text(state["run_id"], config_yaml, "config.yaml")
        return str(state["run_id"])

    def close_parent(self, metrics: Mapping[str, float], note: str, files: list[Path], status: str) -> None:
        """Log the study's result and end the parent run."""
        run_id = self.open_parent()
        self._log(run_id, {name: [(0.0, value)] for name, value in metrics.items()}, {_NOTE: note})
        for file in files:
            self._client.log_artifact(run_id, str(file), "report")
        self._client.set_terminated(run_id, status)
        self._remember(self._ledger.folder, run_id, complete=True)

    def begin(self, record: TrialRecord) -> str:
        """Open the trial's run; returns its id."""
        from mlflow.entities import Param

        folder = self._ledger.trial_folder(record.number)
        state = self._state(folder)
        if state is not None:
            return str(state["run_id"])
        parent = self._state(self._ledger.folder)
        run = self._client.create_run(
            self._experiment(),
            start_time=int(record.started_at * 1000),
            tags={
                **self._tags,
                _NAME: f"{record.study}-{record.number:04d}" + ("" if record.role == SEARCH else f"-{record.role}"),
                _PARENT: parent["run_id"] if parent else self.open_parent(),
                "role": record.role,
                "trial": str(record.number),
                **({} if record.confirms is None else {"confirms": str(record.confirms)}),
            },
        )
        self._remember(folder, run.info.run_id, complete=False)
        params = {**record.params, **_flat(record.config)}
        self._client.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in params.items()])
        return str(run.info.run_id)

    def end(self, record: TrialRecord) -> None:
        """Log everything of an ended trial and end its run."""
        run_id, folder = self.begin(record), self._ledger.trial_folder(record.number)
        figures = {name: [(0.0, e.value)] for name, e in record.estimates.items()}
        intervals = {
            f"{name}.{end}": [(0.0, float(getattr(e, end)))]
            for name, e in record.estimates.items()
            for end in ("low", "high")
        }
        seconds = {f"seconds.{name}": [(0.0, value)] for name, value in record.seconds.items()}
        audit = {f"audit.{name}": [(0.0, float(v))] for name, v in record.audit.items() if v is not None}
        series = {f"series/{name}": points for name, points in self._ledger.read_series(record.number).items()}
        tags = {
            "outcome": record.state,
            "feasible": str(record.feasible).lower(),
            "reason": record.reason[:5000],
            "disturbed": "; ".join(record.disturbed),
            "repeated": "; ".join(record.repeated),
            "cut_short": record.cut_short,
            _NOTE: trial_note(record),
            **{f"signature.{k}": v for k, v in record.signature.items()},
        }
        self._log(run_id, {**figures, **intervals, **seconds, **audit, **series}, tags)
        for name in _LOGGED:
            if (folder / name).is_file():
                self._client.log_artifact(run_id, str(folder / name))
        ended = int((record.ended_at or time.time()) * 1000)
        status = "KILLED" if record.reason in ("interrupted", "the session was killed") else _STATUS[record.state]
        self._client.set_terminated(run_id, status, end_time=ended)
        self._remember(folder, run_id, complete=True)

    def is_complete(self, folder: Path) -> bool:
        state = self._state(folder)
        return state is not None and bool(state["complete"])

    def _experiment(self) -> str:
        name = self._tracking.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = None if self._tracking.artifacts is None else Path(self._tracking.artifacts).resolve().as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def _log(self, run_id: str, series: Mapping[str, list[tuple[float, float]]], tags: Mapping[str, str]) -> None:
        """Metric -> (step, value) pairs and tags, in as few calls as MLflow takes them."""
        from mlflow.entities import Metric, RunTag

        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        now = int(time.time() * 1000)
        points = [Metric(k, v, now, round(step)) for k, points in series.items() for step, v in points]
        for first in range(0, len(points), _BATCH):
            self._client.log_batch(run_id, metrics=points[first : first + _BATCH])

    def _state(self, folder: Path) -> dict[str, Any] | None:
        """What MLflow knows of a folder; None if nothing, or if it was another tracking store."""
        path = folder / _STATE
        if not path.is_file():
            return None
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return state if state["uri"] == redacted(self._tracking.uri) else None

    def _remember(self, folder: Path, run_id: str, complete: bool) -> dict[str, Any]:
        state = {"uri": redacted(self._tracking.uri), "run_id": run_id, "complete": complete}
        write_atomically(folder / _STATE, json.dumps(state))
        return state


class Tracker:
    """A Mirror that never stands in a study's way.

    It works in the background, while engines start and the sampler thinks, holds still while the loop asks it to
    (`held`), and so may lag behind on a live engine. What fails is reported once and left for the sync.
    """

    def __init__(
        self, tracking: Tracking, ledger: Ledger, tags: Mapping[str, str], say: Callable[[str], None],
        agree: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        self._background = Background("tracking")
        self._mirror = Mirror(tracking, ledger, tags, self._background.step, agree)
        self._ledger, self._say = ledger, say
        self._silent_until = 0.0

    def open(self, config_yaml: str) -> None:
        """Open the parent run, and end the child runs that a killed session left open."""
        self._submit(_import_what_is_slow)
        self._submit(lambda: self._mirror.open_parent(config_yaml))
        for record in self._ledger.records():
            if record.ended_at is not None and not self._mirror.is_complete(self._ledger.trial_folder(record.number)):
                self._submit(lambda record=record: self._mirror.end(record))  # type: ignore[misc]

    def begin(self, record: TrialRecord) -> None:
        opened = copy.deepcopy(record)  # the loop goes on writing to its own
        self._submit(lambda: self._mirror.begin(opened))

    def end(self, record: TrialRecord, trial: optuna.Trial | None = None) -> None:
        """Mirror an ended trial; Optuna's dashboard gets a note, where Optuna knows of it."""
        if trial is not None:
            self._submit(lambda: _save_note(trial, record))
        self._submit(lambda: self._mirror.end(record))

    def held(self) -> AbstractContextManager[None]:
        """Nothing is mirrored within; what there is to mirror waits."""
        return self._background.held()

    def catch_up(self) -> None:
        """Wait until what was handed over is mirrored, or has failed."""
        self._background.catch_up()

    def close(self, metrics: Mapping[str, float], note: str, files: list[Path], status: str) -> None:
        """Catch up and close the parent run."""
        self._submit(lambda: self._mirror.close_parent(metrics, note, files, status))
        self._background.finish()

    def _submit(self, action: Callable[[], object]) -> None:
        self._background.submit(lambda: self._try(action))

    def _try(self, action: Callable[[], object]) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            action()
        except OptimizeError:
            raise
        except Exception as error:  # MLflow raises whatever its stores and transports raise
            self._silent_until = time.monotonic() + _PAUSE_S
            self._say(
                f"note: MLflow did not take the results ({str(error).splitlines()[0][:160]}); they are kept on disk, "
                "run python -m optimize.sync once it is back"
            )


def _import_what_is_slow() -> None:
    import optuna_dashboard  # noqa: F401


def _save_note(trial: optuna.Trial, record: TrialRecord) -> None:
    from optuna_dashboard import save_note

    save_note(trial, trial_note(record))


def trial_note(record: TrialRecord) -> str:
    """Markdown on one trial: whether it counts, and why not."""
    from optimize.report.format import figure

    if record.state != "completed":
        evidence = "\n".join(f"    {line}" for line in record.evidence)
        return f"**{record.state}**, not a measurement: {record.reason}\n\n{evidence}"
    broken = [name for name, v in record.violations.items() if v > 0]
    verdict = "**feasible**" if record.feasible else f"**infeasible**: breaks {', '.join(broken)}"
    rows = "\n".join(f"| {name} | {figure(e)} | {e.n} |" for name, e in record.estimates.items())
    verdict += f"\n\nmeasured no longer than needed: {record.cut_short}" if record.cut_short else ""
    verdict += f"\n\ndisturbed: {'; '.join(record.disturbed)}" if record.disturbed else ""
    return f"{verdict}\n\n| metric | value [95 % interval] | n |\n|---|---|---|\n{rows}"


def _flat(node: Any, prefix: str = "run") -> dict[str, Any]:
    if isinstance(node, Mapping):
        found: dict[str, Any] = {}
        for key, value in node.items():
            found |= _flat(value, f"{prefix}.{key}")
        return found
    return {prefix: node if isinstance(node, str) else json.dumps(node, default=str)}
