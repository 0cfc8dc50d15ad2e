"""A study of seven trials whose engines take no time, run as its command, and what each session must leave."""

from __future__ import annotations

import copy
import importlib
import io
import json
import os
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from optimize.config.compose import composed
from optimize.config.secrets import as_yaml, register_node, register_words
from optimize.engine.base import Engine, EngineConfig
from optimize.engine.pool import EnginePool
from optimize.evaluation.evaluator import Evaluator
from optimize.executor.base import Job
from optimize.executor.inline import Inline
from optimize.ledger import Ledger
from optimize.outcome import Role, State
from optimize.plan import Plan
from optimize.testing.scripted_engine import ScriptedEngine, ScriptedLauncher, ScriptedTelemetry
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedClients, ScriptedRequest, VirtualClock
from tests.conftest import VERBS
from tests.faults.session import Session
from tests.made import QUICK
from tests.storages import study_at

ROWS = 60
ALL = os.environ.get("FAULTS") == "all"
"""Whether every fault is wanted, for minutes, rather than one of each kind."""
MARK = "FAULTS_STUDY"
"""Environment variable of the processes of a study: its folder."""
SCRATCH = "scratch"
"""Name of a study's folder for temporary files."""
BUDGET, CELLS = 3, 4
"""Trials of the budget, the baseline included, and of the confirmation: two rounds of the best and the baseline."""
_ANY_FOLDER = "/any-folder"
_TEXT = "the old dog sees house"


class _Engine(ScriptedEngine):
    def effective(self, names: Sequence[str]) -> dict[str, Any]:
        return {"max_num_seqs": 128}


class _Launcher(ScriptedLauncher):
    def launch(self, config: EngineConfig, log_path: Path) -> Engine:
        super().launch(config, log_path)
        return _Engine(self._clock)


def _answer(request: ScriptedRequest) -> ScriptedAnswer:
    return ScriptedAnswer(0.05, text=f"{_TEXT} {request.row}", tokens=5)


def before_trial(job: Job) -> None:
    """Called as a trial begins; replaced by who wants to know."""


class Scripted(Inline):
    """The executor of one engine, in virtual time: its evaluator, pool and files are those of a real study."""

    def __init__(self, plan: Plan, *_: object) -> None:
        super().__init__(plan, lambda _: None)
        self._clock = VirtualClock()
        self._scripted = ScriptedClients(self._clock, _answer)
        self._pool = EnginePool(_Launcher(self._clock, 0.1), plan.folder / "engines")

    def _evaluator_of(self, job: Job) -> Evaluator:
        before_trial(job)
        ledger, telemetry = Ledger(self._plan.folder), ScriptedTelemetry(self._clock, {"cpu_cores": 1.0})
        return self._evaluator(
            self._plan, self._pool, self._scripted, ledger, self._phase, job.answers, self._clock, telemetry
        )


def compose(words: Sequence[str], folder: Path) -> DictConfig:
    """As `composed`, which takes half a second: once for all studies whose commands differ in their folders alone."""
    register_words(words)
    node = copy.deepcopy(_with_any_folder(tuple(word.replace(str(folder), _ANY_FOLDER) for word in words)))
    for key, _, value in (word.partition("=") for word in words if str(folder) in word):
        OmegaConf.update(node, key, value)
    register_node(node)
    return node


@cache
def _with_any_folder(words: tuple[str, ...]) -> DictConfig:
    return composed(words)


@cache
def _yaml(words: tuple[str, ...], folder: Path) -> str:
    return as_yaml(compose(words, folder), words)


@contextmanager
def _quick_parts(folder: Path) -> Iterator[None]:
    """The parts of a command that take time without touching what is tested, replaced."""
    with ExitStack() as stack:
        for name, part in {
            "optimize.executor.factory.make_executor": Scripted,
            "optimize.cli.composed": lambda words: compose(words, folder),
            "optimize.cli.as_yaml": lambda _, words: _yaml(tuple(words), folder),
            "optimize.report.page.write_png": lambda drawing, path: path,
            "optimize.tracking.tracker._PAUSE_S": 0.0,
            "tempfile.tempdir": str(folder / SCRATCH),
        }.items():
            stack.enter_context(patch(name, part))
        yield


def make_terminal() -> io.StringIO:
    """A stream for standard output; replaced by who wants another."""
    return io.StringIO()


def run_command(verb: str, words: Sequence[str], folder: Path) -> Session:
    """Run a command on the study of a folder in this process, on scripted engines."""
    main, code = importlib.import_module(VERBS[verb]).main, -1
    out, err = make_terminal(), io.StringIO()
    with _quick_parts(folder), redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with patch.object(sys, "argv", [verb, *words]):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                err.write(traceback.format_exc())
    return Session(code, out.getvalue(), err.getvalue())


def _running(folder: Path) -> list[str]:
    """Processes that a command on a study's folder has left, after a moment to end."""
    deadline = time.monotonic() + 10
    while processes := [p for p in psutil.process_iter() if _is_of(p, folder)]:
        if time.monotonic() > deadline:
            return [str(process) for process in processes]
        time.sleep(0.05)
    return []


def _is_of(process: psutil.Process, folder: Path) -> bool:
    try:
        has_mark = process.environ().get(MARK) == str(folder)
        return process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and has_mark
    except psutil.Error:
        return False


class Study:
    """A study in a folder of its own.

    Args:
        folder: Everything is written here.
        empty_mlflow_db: A tracking store without runs.
        overrides: Further words of its command.

    Attributes:
        storage: Address of Optuna's storage.
        tracking: Address of MLflow's store.
    """

    def __init__(self, folder: Path, empty_mlflow_db: Path, *overrides: str) -> None:
        self.folder, self.out = folder, folder / "out"
        for path in (self.out, folder / SCRATCH):
            path.mkdir(parents=True)
        shutil.copy(empty_mlflow_db, self.out / "mlflow.db")
        has_recipes = any("quantization" in word for word in overrides)
        lines = [json.dumps({"prompt": f"prompt {i}", "reference": f"{_TEXT} {i}"}) for i in range(ROWS)]
        (folder / "workload.jsonl").write_text("\n".join(lines), encoding="utf-8")
        self.command = [
            "+study=smoke", *(word for word in QUICK if not has_recipes or "quantization" not in word), "sampler=grid",
            f"study.trials={BUDGET - 1}", "objectives=[qps,p99_latency_s,bleu]", "workload=file",
             f"workload.path={folder}/workload.jsonl", f"output_dir={self.out}",
            f"cache_dir={folder}/cache", *overrides,
        ]  # fmt: skip
        self.storage, self.tracking = f"sqlite:///{self.out}/optuna.db", f"sqlite:///{self.out}/mlflow.db"
        self._results: dict[int, Any] = {}
        self._halves: set[Path] = set()

    def track_in(self, empty_mlflow_db: Path, name: str) -> None:
        """Have the commands from here on use another tracking store in the study's folder."""
        shutil.copy(empty_mlflow_db, self.out / f"{name}.db")
        self.tracking = f"sqlite:///{self.out}/{name}.db"
        self.command = [word for word in self.command if not word.startswith("tracking.")]
        self.command += [f"tracking.uri={self.tracking}", f"tracking.artifacts={self.out}/{name}/artifacts"]

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.out / "studies/smoke")

    def trials(self) -> list[FrozenTrial]:
        """All trials in storage; none before it holds the study."""
        if self.storage.startswith("sqlite") and not (self.out / "optuna.db").is_file():
            return []
        try:
            return study_at(self.storage, "smoke").get_trials()
        except (KeyError, RuntimeError):
            return []

    def run(self, verb: str = "optimize", *overrides: str) -> Session:
        """Run a command on the study, as a user would."""
        return run_command(verb, [*self.command, *overrides], self.folder)

    def losses(self, by_kill: bool = False) -> list[str]:
        """What a session lost or left behind, in words; call it after each session.

        Args:
            by_kill: Whether it could not tidy up: what it was writing is left to the next session.
        """
        trials = self.trials()
        results = {t.number: (t.values, t.params) for t in trials if t.state is TrialState.COMPLETE}
        losses = [f"trial {n} lost its result" for n, result in self._results.items() if results.get(n) != result]
        self._results = results
        halves = {path for path in self.folder.rglob("*") if "part" in path.name.split(".")}
        losses += [f"{path} was left behind" for path in halves - self._halves if not by_kill]
        self._halves = halves
        return losses + [f"{process} was left running" for process in _running(self.folder)]

    def shortfalls(self) -> list[str]:
        """What a study that has ended lacks, in words."""
        trials = self.trials()
        complete = [t for t in trials if t.state is TrialState.COMPLETE]
        roles = [t.user_attrs["role"] for t in complete]
        points = [t.params for t in complete if t.user_attrs["role"] == Role.SEARCH]
        repetitions = [point for place, point in enumerate(points) if point in points[:place]]
        cells = {(t.user_attrs["round"], t.user_attrs["confirms"]) for t in complete if "round" in t.user_attrs}
        records = {r.number: r for r in self.ledger.records()}
        raw = [n for n in records if records[n].state is State.COMPLETED and len(self.ledger.read_requests(n)) == 0]
        claims = {
            f"not every trial has ended: {[t.state.name for t in trials]}": all(t.state.is_finished() for t in trials),
            f"not one baseline: {roles}": roles.count(Role.BASELINE) == 1,
            f"not {BUDGET - 1} trials of the search: {points}": len(points) == BUDGET - 1,
            f"told twice: {repetitions}": not repetitions,
            f"not {CELLS} cells: {cells}": len(cells) == CELLS == roles.count(Role.CONFIRMATION),
            "the ledger lacks trials that storage has": {t.number for t in complete}
            == {n for n, r in records.items() if r.state is State.COMPLETED},
            "a record was left open": all(r.ended_at for r in records.values()),
            f"trials without their requests: {raw}": not raw,
            f"half a file: {self._halves}": not self._halves,
            **self._tracked(records),
        }
        return [claim for claim, holds in claims.items() if not holds]

    def _tracked(self, records: Mapping[int, Any]) -> dict[str, bool]:
        """The claims on MLflow: one run of the study and one of each trial, all ended."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.tracking)
        experiment = client.get_experiment_by_name("optimize")
        runs = list(client.search_runs([experiment.experiment_id], max_results=1000)) if experiment else []
        numbers = sorted(int(r.data.tags["trial"]) for r in runs if "trial" in r.data.tags)
        states = {r.info.status for r in runs}
        return {
            f"MLflow has runs of trials {numbers}, not {sorted(records)}": numbers == sorted(records),
            f"MLflow's runs are {states}": "RUNNING" not in states,
            "not one run of the study": len(runs) - len(numbers) == 1,
        }
