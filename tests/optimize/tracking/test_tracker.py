"""Order and timing of MLflow's updates; whole studies test their content."""

import threading
from pathlib import Path
from typing import Any

import pytest

from optimize.config.schema import Tracking
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Role
from optimize.study.info import StudyInfo
from optimize.tracking.tracker import Tracker


class RecordingMirror:
    """A mirror that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def open_parent(self, config_yaml: str) -> None:
        self.calls.append(f"open {config_yaml}")

    def is_complete(self, folder: Path) -> bool:
        return False

    def begin(self, record: TrialRecord) -> None:
        self.calls.append(f"begin {record.number}")

    def end(self, record: TrialRecord) -> None:
        self.calls.append(f"end {record.number}")

    def close_parent(self, *_: Any) -> None:
        self.calls.append("close")


def record(number: int, ended_at: float | None = None) -> TrialRecord:
    return TrialRecord("s", number, Role.SEARCH, {}, {}, {}, ended_at=ended_at)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> RecordingMirror:
    recording = RecordingMirror()
    monkeypatch.setattr("optimize.tracking.tracker.Mirror", lambda *_: recording)
    return recording


@pytest.fixture
def tracker(mirror: RecordingMirror, tmp_path: Path) -> Tracker:
    """Tracker of a study whose last session was killed before it mirrored its first trial."""
    ledger = Ledger(tmp_path)
    ledger.write(record(0, ended_at=1.0))
    ledger.write(record(1))
    opened = Tracker(Tracking(uri="sqlite:///unused", storage="sqlite:///unused"), ledger, StudyInfo(), print)
    opened.open("config")
    return opened


def test_it_begins_with_the_first_trial(mirror: RecordingMirror, tracker: Tracker) -> None:
    assert not threading.Event().wait(0.2) and mirror.calls == []
    tracker.begin(record(2))
    tracker.close({}, "", [], "FINISHED")
    assert mirror.calls == ["open config", "end 0", "begin 2", "close"]


def test_a_session_without_a_trial_is_mirrored_too(mirror: RecordingMirror, tracker: Tracker) -> None:
    tracker.catch_up()
    assert mirror.calls == ["open config", "end 0"]
    tracker.close({}, "", [], "FINISHED")
    assert mirror.calls[2:] == ["close"]
