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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.about import About
from optimize.background import Background
from optimize.dashboard import annotate
from optimize.errors import OptimizeError, redacted
from optimize.keys import EXPERIMENT_NOTE, Points, figures_of, in_time
from optimize.ledger import SEARCH, Ledger, TrialRecord, write_atomically
from optimize.report.notes import trial_note
from optimize.schema import Tracking

if TYPE_CHECKING:
    import optuna
    from mlflow import MlflowClient

_STATE = "mlflow.json"
_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_NOTE = "mlflow.note.content"
_SOURCE = {"mlflow.source.name": "python -m optimize", "mlflow.source.type": "LOCAL"}
_LOGGED = ("trial.json", "found.json", "engine.log", "requests.parquet", "telemetry.parquet")
_STATUS = {"completed": "FINISHED", "infeasible": "FINISHED", "failed": "FAILED"}
_BATCH = 500
_PAUSE_S = 60.0
_SUMMARY = "summary.json"
"""In the study's folder: what the parent run shows, for a sync to repeat."""
# An unreachable server must cost seconds, not the minutes of MLflow's defaults.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Mirror:
    """Writes trials and studies to MLflow; every call is safe to repeat.

    Args:
        tracking: Where to.
        ledger: The study's folder.
        about: What its runs have in common.
        step: Called before every call of MLflow; may hold it back.
        agree: From the id of a parent run just made to the one that all drivers of the study use.
    """

    def __init__(
        self, tracking: Tracking, ledger: Ledger, about: About, step: Callable[[], None] = lambda: None,
        agree: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        self._tracking, self._ledger, self._about, self._step = tracking, ledger, about, step
        self._tags, self._agree = {**about.tags, **_SOURCE}, agree
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
            made = run_id == run.info.run_id
            if not made:
                self._client.delete_run(run.info.run_id)
            state = self._remember(self._ledger.folder, run_id, complete=False)
            if made:
                self._log_workload(run_id)
                self._client.set_tag(run_id, _NOTE, f"No result yet.\n\n{self._about.glossary}")
        else:
            self._client.update_run(state["run_id"], status="RUNNING")
        if config_yaml is not None:
            self._client.log_text(state["run_id"], config_yaml, "config.yaml")
        return str(state["run_id"])

    def close_parent(self, metrics: Mapping[str, float], note: str, files: list[Path], status: str) -> None:
        """Log the study's result and end the parent run."""
        run_id, now = self.open_parent(), time.time()
        told = {_NOTE: f"{note}\n\n{self._about.glossary}"} if note else {}
        self._log(run_id, {name: [(now, 0, value)] for name, value in metrics.items()}, told)
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
        # The knobs alone: what they were resolved to stands in trial.json, and would crowd every comparison.
        params = [Param(name, str(value)) for name, value in record.params.items()]
        self._client.log_batch(run.info.run_id, params=params)
        self._log_workload(run.info.run_id)
        return str(run.info.run_id)

    def end(self, record: TrialRecord) -> None:
        """Log everything of an ended trial and end its run."""
        run_id, folder = self.begin(record), self._ledger.trial_folder(record.number)
        ended = record.ended_at or time.time()
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
        points = {name: [(ended, 0, value)] for name, value in figures_of(record).items()}
        points |= in_time(self._ledger.read_series(record.number), record)
        self._log(run_id, points, {name: value for name, value in tags.items() if value})
        for name in _LOGGED:
            if (folder / name).is_file():
                self._client.log_artifact(run_id, str(folder / name))
        status = "KILLED" if record.reason in ("interrupted", "the session was killed") else _STATUS[record.state]
        self._client.set_terminated(run_id, status, end_time=int(ended * 1000))
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
        made = str(self._client.create_experiment(name, artifact_location=location))
        # The second spares readers the parts of MLflow's UI that are for chat traces.
        for tag, value in ((_NOTE, EXPERIMENT_NOTE), ("mlflow.experimentKind", "custom_model_development")):
            self._client.set_experiment_tag(made, tag, value)
        return made

    def _log_workload(self, run_id: str) -> None:
        """The workload as a dataset: what MLflow groups and filters runs by."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        known = self._about.workload
        if not known:
            return
        local = Path(known["source"]).is_file()
        columns = [{"name": name, "type": "string", "required": True} for name in ("prompt", "reference")]
        workload = Dataset(
            name=known["name"], digest=known["digest"], source_type="local" if local else "hugging_face",
            source=json.dumps({"uri" if local else "path": known["source"]}),
            schema=json.dumps({"mlflow_colspec": columns[: 2 if known["sizes"]["scored"] else 1]}),
            profile=json.dumps(known["sizes"]),
        )  # fmt: skip
        used_for = [InputTag("mlflow.data.context", "load")]
        self._client.log_inputs(run_id, datasets=[DatasetInput(workload, used_for)])

    def _log(self, run_id: str, series: Mapping[str, Points], tags: Mapping[str, str]) -> None:
        """Metrics and tags, in as few calls as MLflow takes them."""
        from mlflow.entities import Metric, RunTag

        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        points = [Metric(k, v, int(at * 1000), step) for k, points in series.items() for at, step, v in points]
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
    (`held`), and so may lag behind on a live engine. It begins with the first trial, or the first engine would wait for
    MLflow's imports. What fails is reported once and left for the sync.
    """

    def __init__(
        self, tracking: Tracking, ledger: Ledger, about: About, say: Callable[[str], None],
        agree: Callable[[str], str] = str,
    ) -> None:  # fmt: skip
        self._background = Background("tracking")
        self._mirror = Mirror(tracking, ledger, about, self._background.step, agree)
        self._ledger, self._say = ledger, say
        self._silent_until = 0.0
        self._opening: list[Callable[[], object]] = []

    def open(self, config_yaml: str) -> None:
        """Have the parent run opened, and the child runs ended that a killed session left open, before all else."""
        _import_what_is_slow()
        self._opening.append(lambda: self._mirror.open_parent(config_yaml))
        for record in self._ledger.records():
            if record.ended_at is not None and not self._mirror.is_complete(self._ledger.trial_folder(record.number)):
                self._opening.append(partial(self._mirror.end, record))

    def begin(self, record: TrialRecord) -> None:
        opened = copy.deepcopy(record)  # the loop goes on writing to its own
        self._submit(lambda: self._mirror.begin(opened))

    def end(self, record: TrialRecord, trial: optuna.Trial | None = None) -> None:
        """Mirror an ended trial; Optuna's dashboard gets a note, where Optuna knows of it."""
        if trial is not None:
            self._submit(lambda: annotate(trial, record))
        self._submit(lambda: self._mirror.end(record))

    def show(self, action: Callable[[], None]) -> None:
        """Do something for those who look on, when what was tracked before is done."""
        self._submit(action)

    def held(self) -> AbstractContextManager[None]:
        """Nothing is mirrored within; what there is to mirror waits."""
        return self._background.held()

    def catch_up(self) -> None:
        """Wait until what was handed over is mirrored, or has failed."""
        self._start()
        self._background.catch_up()

    def close(self, metrics: Mapping[str, float], note: str, files: list[Path], status: str) -> None:
        """Catch up and close the parent run."""
        summary = {"metrics": dict(metrics), "note": note, "status": status}
        write_atomically(self._ledger.folder / _SUMMARY, json.dumps(summary))
        self._submit(lambda: self._mirror.close_parent(metrics, note, files, status))
        self._background.finish()

    def _submit(self, action: Callable[[], object]) -> None:
        self._start()
        self._background.submit(partial(self._try, action))

    def _start(self) -> None:
        while self._opening:
            self._background.submit(partial(self._try, self._opening.pop(0)))

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
    """Here, and not in the background: two threads in the same large packages can wait for each other's imports."""
    import optuna_dashboard  # noqa: F401


def summary_of(folder: Path) -> tuple[dict[str, float], str, str]:
    """(metrics, note, status) that a study ended with; of one that was killed before, nothing but that."""
    path = folder / _SUMMARY
    if not path.is_file():
        return {}, "", "FINISHED" if (folder / "report").is_dir() else "KILLED"
    raw = json.loads(path.read_text(encoding="utf-8"))
    return raw["metrics"], raw["note"], raw["status"]
