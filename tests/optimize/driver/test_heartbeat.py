"""What a study says where its output goes to a log."""

from __future__ import annotations

import time
from contextlib import redirect_stdout
from io import StringIO

import pytest

from optimize.driver import heartbeat
from optimize.driver.heartbeat import SILENCE_S, Heartbeat
from optimize.driver.progress import Progress
from optimize.ledger import TrialRecord
from optimize.outcome import Role


def _record(number: int, role: Role = Role.SEARCH) -> TrialRecord:
    return TrialRecord(study="s", number=number, role=role, params={"x": 1}, config={}, signature={}, confirms=0)


def test_a_line_is_said_after_each_silence_and_only_then() -> None:
    now, messages = [0.0], list[str]()
    beats = Heartbeat(lambda: f"compiling, {now[0]:.0f} s", messages.append, lambda: now[0])
    for now[0] in range(61):
        beats.beat()
    assert messages == ["compiling, 25 s", "compiling, 50 s"]
    beats.heard()
    now[0] += SILENCE_S - 1
    beats.beat()
    assert len(messages) == 2


def _log_of(progress: Progress, text: StringIO) -> str:
    """The next line that a heartbeat adds."""
    before = len(text.getvalue())
    progress._heartbeat._heard_at = -SILENCE_S
    progress._heartbeat._clock = lambda: 0.0
    progress._heartbeat.beat()
    return text.getvalue()[before:]


def test_the_line_names_the_trial_and_its_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    text = StringIO()
    with redirect_stdout(text), Progress(25, []) as progress:
        assert _log_of(progress, text) == ""
        progress.phase("making quantized checkpoints")
        assert _log_of(progress, text) == "  making quantized checkpoints, 0 s\n"
        progress.trial(_record(0))
        progress.phase("starting the engine: compiling")
        monkeypatch.setattr(progress, "_phase_began", time.monotonic() - 34)
        assert _log_of(progress, text) == "  trial 0 (1 of 25): starting the engine: compiling, 34 s\n"
        progress.finished(_record(0), True, str)
        assert _log_of(progress, text) == "  choosing the next settings, 0 s\n"
        progress.trial(_record(7, Role.CONFIRMATION))
        assert _log_of(progress, text) == "  trial 7, confirming trial 0: running, 0 s\n"
    assert progress._state() == "  finishing, 0 s"


def test_engines_side_by_side_share_a_line() -> None:
    text = StringIO()
    with redirect_stdout(text), Progress(25, []) as progress:
        progress.trial(_record(3))
        progress.trial(_record(4))
        assert _log_of(progress, text) == "  trials 3, 4 are running, the first of them for 0 s\n"
        progress.finished(_record(3), True, str)
        assert _log_of(progress, text).startswith("  trial 4 (1 of 25): running, 0 s")


def test_every_wait_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE_S", 0.0)
    monkeypatch.setattr(heartbeat, "_LOOK_S", 0.001)
    text = StringIO()
    with redirect_stdout(text):
        progress = Progress(25, [])
        with progress.during("waiting for the first worker"):
            while "waiting" not in text.getvalue():
                time.sleep(0.001)
    assert text.getvalue().startswith("  waiting for the first worker, 0 s\n")


def test_a_wait_within_a_wait_has_the_line_and_gives_it_back() -> None:
    text = StringIO()
    with redirect_stdout(text):
        progress = Progress(25, [])
        with progress.during("preparing the study"):
            with progress.during("opening the study"):
                assert _log_of(progress, text) == "  opening the study, 0 s\n"
            assert _log_of(progress, text).startswith("  preparing the study, ")
            assert progress._heartbeat._ticker.is_alive
    assert not progress._heartbeat._ticker.is_alive


def test_a_terminal_shows_the_view_in_the_place_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with redirect_stdout(StringIO()):
        progress = Progress(25, [])
        with progress.during("preparing the study"):
            assert progress._state() == "  preparing the study, 0 s"
            with progress:
                progress.phase("measuring")
                assert progress._state() == ""
            assert progress._state() == "  finishing, 0 s"
