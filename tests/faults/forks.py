"""A process that has run a study, and forks: each child runs a study's command into a signal.

Whatever the first study of a process takes longer for, imports and the compiling of statements, no child need do again.
It reads requests as JSON lines from standard input and answers each with one line, the session of the child.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from optimize.config.registry import register
from optimize.executor.base import Job
from tests.conftest import ROOT
from tests.faults.session import Session
from tests.faults.study import MARK, Study, compose, run_command

PHASES = ("quantize", "install", "baseline", "search", "confirm", "report")
WARM_UP = "warm-up"
"""In place of a phase: the process runs the study itself."""
_SIGNAL, _PHASE = "FAULTS_SIGNAL", "FAULTS_PHASE"
_PACKAGES = str(Path(__file__).with_name("packages"))


class Forks:
    """The other side: a context manager that keeps the process.

    Args:
        study: The study that the process runs itself.
    """

    def __init__(self, study: Study) -> None:
        self._study = study

    def __enter__(self) -> Forks:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        assert self.run(self._study, WARM_UP).code == 0
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, study: Study, phase: str = "", number: int = 0) -> Session:
        """Run a study's command, which is sent a signal in a phase; a negative exit code is what signal ended it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"words": study.command, "folder": str(study.folder), "phase": phase, "number": int(number)}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return Session(**json.loads(self._process.stdout.readline()))


@contextmanager
def _strike_at(phase: str, number: int) -> Iterator[None]:
    """The driver sends itself the signal as a phase begins; the phases of checkpoints are left to their process."""

    def strike(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    def on_trial(job: Job) -> None:
        if phase == ("confirm" if job.record.role == "confirmation" else job.record.role):
            strike()

    with ExitStack() as stack:
        stack.enter_context(patch("tests.faults.study.before_trial", on_trial))
        if phase == "report":
            stack.enter_context(patch("optimize.report.summary.write", strike))
        yield


def _session(request: dict[str, Any]) -> Session:
    phase, number = request["phase"], request["number"]
    os.environ.update({MARK: request["folder"], _PHASE: phase, _SIGNAL: str(number), "PYTHONPATH": _PACKAGES})
    with _strike_at(phase, number):
        return run_command("optimize", request["words"], Path(request["folder"]))


def _child(request: dict[str, Any], answer: Path) -> NoReturn:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answer.write_text(json.dumps(dataclasses.asdict(_session(request))), encoding="utf-8")
    os._exit(0)  # an interpreter that has imported everything takes longer to end than such a study


def _answer(request: dict[str, Any]) -> Session:
    """The session of a child."""
    if request["phase"] == WARM_UP:
        session = _session(request)
        gc.freeze()  # no child need look through what it shares with the others
        return session
    answer = Path(request["folder"]) / "answer"
    answer.unlink(missing_ok=True)
    compose(request["words"], answer.parent)  # before the fork: no child need do it again
    child = os.fork()
    if child == 0:
        _child(request, answer)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not answer.is_file():
        return Session(code, "", "")
    return Session(**json.loads(answer.read_text(encoding="utf-8")))


def main() -> None:
    register()
    for line in sys.stdin:
        print(json.dumps(dataclasses.asdict(_answer(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
