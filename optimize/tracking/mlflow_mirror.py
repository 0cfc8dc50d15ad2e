"""Studies and trials as MLflow runs with their metrics, tags and files; the only module that imports mlflow."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.config.schema import Tracking
from optimize.formatting import UNSET, printable
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Role
from optimize.redaction import redact
from optimize.study.info import StudyInfo
from optimize.tracking.metric_keys import EXPERIMENT_NOTE, Points, figures_of, in_time, valid_key
from optimize.tracking.notes import trial_note
from optimize.tracking.relocation import relocate
from optimize.tracking.run_state import RunStates

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_PARENT, _NAME = "mlflow.parentRunId", "mlflow.runName"
_NOTE = "mlflow.note.content"
_SOURCE = {"mlflow.source.name": "python -m optimize", "mlflow.source.type": "LOCAL"}
_LOGGED = ("trial.json", "found.json", "engine.log", "requests.parquet", "telemetry.parquet")
_STATUS = {"completed": "FINISHED", "infeasible": "FINISHED", "failed": "FAILED"}
_DELETED = "deleted"
_BATCH = 500
# An unreachable server must cost seconds instead of the minutes of MLflow's defaults.
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

    What is written to again comes back: an experiment or a run that was deleted is restored, and one that is gone for
    good is made anew. A run that is complete, and was deleted afterwards, stays deleted.

    Args:
        tracking: MLflow's address and experiment.
        ledger: The study's folder.
        info: Description of the study: tags, workload, glossary.
        step: Called before every call to MLflow; may delay it.
        agree: From the id of a parent run just created to the id that all drivers of the study use.
        say: Receives what was restored.
    """

    def __init__(
        self, tracking: Tracking, ledger: Ledger, info: StudyInfo, step: Callable[[], None] = lambda: None,
        agree: Callable[[str], str] = str, say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self._tracking, self._ledger, self._info, self._step = tracking, ledger, info, step
        self._tags, self._agree, self._say = {**info.tags, **_SOURCE}, agree, say
        self._states = RunStates(tracking, ledger.folder.parent.parent)
        self._connection: MlflowClient | None = None

    @property
    def _client(self) -> MlflowClient:
        self._step()
        if self._connection is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient

            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(logging.CRITICAL)  # its errors come as exceptions
            relocate(self._tracking.uri, self._tracking.experiment, self._tracking.artifacts)
            self._connection = MlflowClient(tracking_uri=self._tracking.uri)
        return self._connection

    def open_parent(self, config_yaml: str | None = None) -> str:
        """Create or reopen the study's parent run; returns its id."""
        run_id = self._run_of(self._ledger.folder) or self._parent_of_trials()
        if run_id is None:
            run_id = self._create_parent()
        else:
            self._client.update_run(run_id, status="RUNNING")
        if config_yaml is not None:
            self._client.log_text(run_id, redact(config_yaml), "config.yaml")
        return run_id

    def _create_parent(self) -> str:
        """A new parent run, unless another driver of the study was faster; returns the id of the one in use."""
        tags = {**self._tags, _NAME: self._tags["study"], "role": "study"}
        run = self._client.create_run(self._experiment(), tags=tags)
        with self._removed_if_lost(run.info.run_id):
            run_id = self._agree(run.info.run_id)
            if run_id != run.info.run_id and not self._is_usable(run_id):
                run_id = str(run.info.run_id)
            self._states.write(self._ledger.folder, run_id, complete=False)
        if run_id != run.info.run_id:
            self._client.delete_run(run.info.run_id)
            return run_id
        self._log_workload(run_id)
        self._client.set_tag(run_id, _NOTE, f"No result yet.\n\n{self._info.glossary}")
        return run_id

    @contextmanager
    def _removed_if_lost(self, run_id: str) -> Iterator[None]:
        """Remove a new run if storing its id fails: the next call makes another, and nobody would ever end this one."""
        try:
            yield
        except Exception:
            self._client.delete_run(run_id)
            raise

    def close_parent(self, metrics: Mapping[str, float], note: str, files: list[Path], status: str) -> None:
        """Log the study's result and end the parent run."""
        run_id, now = self.open_parent(), time.time()
        tags = {_NOTE: f"{note}\n\n{self._info.glossary}"} if note else {}
        self._log(run_id, {name: [(now, 0, value)] for name, value in metrics.items()}, tags)
        for file in files:
            self._client.log_artifact(run_id, str(file), "report")
        self._client.set_terminated(run_id, status)
        self._states.write(self._ledger.folder, run_id, complete=True)

    def begin(self, record: TrialRecord) -> str:
        """Open the trial's run; returns its id."""
        from mlflow.entities import Param

        folder = self._ledger.trial_folder(record.number)
        run_id = self._run_of(folder) or self._unclaimed(record)
        if run_id is not None:
            return run_id
        parent = self._states.read(self._ledger.folder)
        run = self._client.create_run(
            self._experiment(),
            start_time=int(record.started_at * 1000),
            tags={
                **self._tags,
                _NAME: f"{record.study}-{record.number:04d}{'' if record.role == Role.SEARCH else f'-{record.role}'}",
                _PARENT: parent.run_id if parent else self.open_parent(),
                "role": str(record.role),
                "trial": str(record.number),
                **({} if record.confirms is None else {"confirms": str(record.confirms)}),
            },
        )
        with self._removed_if_lost(run.info.run_id):
            self._states.write(folder, run.info.run_id, complete=False)
        # The knobs alone: the resolved configuration is in trial.json, and would crowd every comparison.
        texts = {name: UNSET if value is None else str(value) for name, value in record.params.items()}
        params = [Param(valid_key(name), printable(redact(text))) for name, text in texts.items()]
        self._client.log_batch(run.info.run_id, params=params)
        self._log_workload(run.info.run_id)
        return str(run.info.run_id)

    def end(self, record: TrialRecord) -> None:
        """Log an ended trial, and end its run."""
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
        self._states.write(folder, run_id, complete=True)

    def is_complete(self, folder: Path) -> bool:
        """Whether everything of a folder was mirrored; asks its own file alone."""
        state = self._states.read(folder)
        return state is not None and state.complete

    def lifecycle(self, folder: Path) -> str:
        """ "active" or "deleted", as MLflow has the run of a folder; empty where it has none."""
        state = self._states.read(folder)
        return "" if state is None else self._lifecycle(state.run_id)

    def _run_of(self, folder: Path) -> str | None:
        """The run of a folder, ready to be written to; None where it has none."""
        state = self._states.read(folder)
        return state.run_id if state is not None and self._is_usable(state.run_id) else None

    def _parent_of_trials(self) -> str | None:
        """The parent of the trials' runs, where the study's own state is lost; None where they have none."""
        states = (self._states.read(self._ledger.trial_folder(number)) for number in self._ledger.numbers())
        first = next((state for state in states if state is not None and self._lifecycle(state.run_id)), None)
        parent = None if first is None else self._client.get_run(first.run_id).data.tags.get(_PARENT)
        return parent if parent is not None and self._is_usable(parent) else None

    def _unclaimed(self, record: TrialRecord) -> str | None:
        """The run of a trial whose state is lost, told by its start in milliseconds; None where there is none."""
        folder, started = self._ledger.trial_folder(record.number), int(record.started_at * 1000)
        query = f"tags.trial = '{record.number}' and attributes.start_time = {started}"
        runs = self._client.search_runs([self._experiment()], query, max_results=1)
        if not runs or runs[0].data.tags.get("study") != self._tags.get("study"):
            return None
        self._states.write(folder, runs[0].info.run_id, complete=False)
        return str(runs[0].info.run_id)

    def _is_usable(self, run_id: str) -> bool:
        """Whether MLflow has a run, which is restored where it was deleted."""
        lifecycle = self._lifecycle(run_id)
        if lifecycle == _DELETED:
            run = self._client.get_run(run_id)
            self._restore_experiment(self._client.get_experiment(run.info.experiment_id))
        if self._lifecycle(run_id) == _DELETED:  # not with its experiment
            self._client.restore_run(run_id)
            name = run.data.tags.get(_NAME, run_id)
            self._say(f"note: run {name} had been deleted in MLflow; it is restored, because it is written to again")
        return bool(lifecycle)

    def _lifecycle(self, run_id: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_run(run_id).info.lifecycle_stage)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return ""
            raise

    def _restore_experiment(self, experiment: Experiment) -> None:
        if experiment.lifecycle_stage == _DELETED:
            self._client.restore_experiment(experiment.experiment_id)
            self._say(f"note: experiment {experiment.name} had been deleted in MLflow; it is restored with its runs")

    def _experiment(self) -> str:
        name = self._tracking.experiment
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            self._restore_experiment(experiment)
            return str(experiment.experiment_id)
        location = None if self._tracking.artifacts is None else Path(self._tracking.artifacts).resolve().as_uri()
        experiment_id = str(self._client.create_experiment(name, artifact_location=location))
        # The second tag hides the parts of MLflow's UI that are for chat traces.
        for tag, value in ((_NOTE, EXPERIMENT_NOTE), ("mlflow.experimentKind", "custom_model_development")):
            self._client.set_experiment_tag(experiment_id, tag, value)
        return experiment_id

    def _log_workload(self, run_id: str) -> None:
        """Log the workload as a dataset, by which MLflow groups and filters runs."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        workload = self._info.workload
        if not workload:
            return
        local = Path(workload["source"]).is_file()
        columns = [{"name": name, "type": "string", "required": True} for name in ("prompt", "reference")]
        dataset = Dataset(
            name=workload["name"], digest=workload["digest"], source_type="local" if local else "hugging_face",
            source=json.dumps({"uri" if local else "path": workload["source"]}),
            schema=json.dumps({"mlflow_colspec": columns[: 2 if workload["sizes"]["scored"] else 1]}),
            profile=json.dumps(workload["sizes"]),
        )  # fmt: skip
        context = [InputTag("mlflow.data.context", "load")]
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, context)])

    def _log(self, run_id: str, series: Mapping[str, Points], tags: Mapping[str, str]) -> None:
        """Log metrics and tags in as few calls as MLflow allows."""
        from mlflow.entities import Metric, RunTag

        shown = {name: printable(redact(value), keep="\n") for name, value in tags.items()}
        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in shown.items()])
        keyed = [(valid_key(name), point) for name, points in series.items() for point in points]
        points = [Metric(key, value, int(at * 1000), step) for key, (at, step, value) in keyed]
        for first in range(0, len(points), _BATCH):
            self._client.log_batch(run_id, metrics=points[first : first + _BATCH])
