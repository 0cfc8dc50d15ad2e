"""Where a session stands, as whoever watches it from outside reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from optimize.driver.progress import Progress
from optimize.errors import DamagedFile, OptimizeError
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.study import status


def _now(folder: Path) -> str:
    written = status.read(folder)
    assert written is not None
    return written.now()


@pytest.mark.parametrize(
    ("error", "end", "reason"),
    [
        (None, "finished", ""),
        (KeyboardInterrupt(), "interrupted", ""),
        (OptimizeError("the baseline gave no measurement"), "failed", "the baseline gave no measurement"),
        (OSError(28, "No space left on device"), "failed", "No space left on device"),
        (SystemExit(1), "failed", "SystemExit: 1"),
        (KeyError("qps"), "failed", "KeyError: 'qps'"),
        (AssertionError(), "failed", "AssertionError"),
    ],
)
def test_a_session_says_that_it_runs_and_how_it_ended(
    tmp_path: Path, error: BaseException | None, end: str, reason: str
) -> None:
    during = ""
    with suppress(BaseException), status.recorded(tmp_path):
        during = _now(tmp_path)
        if error is not None:
            raise error
    written = status.read(tmp_path)
    assert written is not None
    assert (during, written.now(), written.reason) == ("running", end, reason)


def test_a_session_that_was_killed_is_interrupted(tmp_path: Path) -> None:
    script = "import os, sys; from pathlib import Path; from optimize.study.status import recorded\n"
    script += "with recorded(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    written = status.read(tmp_path)
    assert written is not None and (written.state, written.now()) == ("running", "interrupted")


def test_another_process_with_the_same_id_is_not_the_session(tmp_path: Path) -> None:
    with status.recorded(tmp_path):
        written = status.read(tmp_path)
        assert written is not None and written.pid == os.getpid()
        assert replace(written, ticks=written.ticks - 1).now() == "interrupted"


def test_a_session_elsewhere_runs_as_long_as_there_is_news(tmp_path: Path) -> None:
    with status.recorded(tmp_path):
        written = status.read(tmp_path)
    assert written is not None
    elsewhere = replace(written, state="running", place="another:boot:1", pid=1)
    assert elsewhere.now() == "running"
    assert replace(elsewhere, updated_at=time.time() - 3600).now() == "interrupted"


def test_a_command_that_is_refused_before_its_session_leaves_the_last_ones_end_alone(tmp_path: Path) -> None:
    with status.recorded(tmp_path):
        pass
    path = tmp_path / status.FILE
    earlier = json.dumps({**json.loads(path.read_text()), "pid": os.getpid() + 1})
    path.write_text(earlier)
    status.update(tmp_path, phase="opening the study")
    assert path.read_text() == earlier


def test_progress_is_kept_for_whoever_watches(tmp_path: Path) -> None:
    record = TrialRecord(study="s", number=3, role=Role.SEARCH, params={"batch_size": 8}, config={}, signature={})
    record.state = State.COMPLETED
    with status.recorded(tmp_path), Progress(5, [], folder=tmp_path) as progress:
        progress.resume(2)
        progress.trial(record)
        progress.phase("measuring")
        during = status.read(tmp_path)
        progress.finished(record, counts=True, best=lambda: "trial 3")
        after = status.read(tmp_path)
    assert during is not None and after is not None
    assert (during.trial, during.phase, during.done, during.total) == (
        "trial 3 (3 of 5): batch_size=8", "measuring", 2, 5,
    )  # fmt: skip
    assert (after.done, after.best) == (3, "trial 3") and after.ends_at is not None
    assert time.time() - 1 < after.ends_at < time.time() + 60


@pytest.mark.parametrize("text", ["[]", "{", '{"state": 1}', '{"state": "running", "pid": "x"}', "[" * 100_000])
def test_a_damaged_status_is_named_and_keeps_no_study_from_running(tmp_path: Path, text: str) -> None:
    (tmp_path / status.FILE).write_text(text)
    with pytest.raises(DamagedFile, match=r"status\.json"):
        status.read(tmp_path)
    status.update(tmp_path, phase="measuring")
    assert (tmp_path / status.FILE).read_text() == text
    with status.recorded(tmp_path):
        assert _now(tmp_path) == "running"


def test_a_full_disk_keeps_no_study_from_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    with status.recorded(tmp_path):
        written = json.loads((tmp_path / status.FILE).read_text())
        monkeypatch.setattr(status, "write_atomically", refuse)
        status.update(tmp_path, phase="measuring")
    assert json.loads((tmp_path / status.FILE).read_text()) == written
