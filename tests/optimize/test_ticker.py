"""A ticker goes on after every exception of its action, reports it once, and says whether it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from optimize import ticker as ticker_module
from optimize.ticker import Ticker

WAIT_S = 30.0


class Steps:
    """An action that does the next step of a script at each repetition, and the last one for ever."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self.steps, self.count, self.done = steps, 0, threading.Event()

    def __call__(self) -> None:
        step = self.steps[min(self.count, len(self.steps) - 1)]
        self.count += 1
        if self.count >= len(self.steps):
            self.done.set()
        step()


def fail() -> None:
    raise OSError(28, "No space left on device")


def succeed() -> None: ...


def test_it_goes_on_after_exceptions_and_reports_each_once_until_it_succeeds() -> None:
    lines: list[str] = []
    steps = Steps(fail, fail, succeed, fail, succeed)
    ticker = Ticker(steps, 0.001, "looking", lines.append)
    ticker.start()
    assert steps.done.wait(WAIT_S) and ticker.is_alive
    ticker.stop()
    assert not ticker.is_alive
    assert lines == ["looking: OSError: [Errno 28] No space left on device"] * 2


def test_it_goes_on_where_nobody_can_be_told() -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError

    steps = Steps(fail, fail, succeed)
    ticker = Ticker(steps, 0.001, "looking", closed)
    ticker.start()
    assert steps.done.wait(WAIT_S)
    ticker.stop()


def test_it_logs_where_nothing_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, lines = Steps(fail, succeed), list[str]()
    monkeypatch.setattr(ticker_module._log, "warning", lines.append)
    ticker = Ticker(steps, 0.001, "looking")
    ticker.start()
    assert steps.done.wait(WAIT_S)
    ticker.stop()
    assert len(lines) == 1 and lines[0].startswith("looking: OSError")


def test_the_length_of_a_repetition_shows_while_it_lasts() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        leave.wait(WAIT_S)

    ticker = Ticker(hang, 0.001, "hanging")
    assert not ticker.is_alive and ticker.busy_s == 0.0
    ticker.start()
    assert entered.wait(WAIT_S) and ticker.busy_s > 0.0
    leave.set()
    ticker.stop()
    assert ticker.busy_s == 0.0


def test_it_can_be_woken_before_its_time() -> None:
    steps = Steps(succeed)
    ticker = Ticker(steps, 3600.0, "waiting")
    ticker.start()
    ticker.wake()
    assert steps.done.wait(WAIT_S)
    ticker.stop()


def test_one_that_was_not_started_can_be_stopped() -> None:
    Ticker(succeed, 1.0, "idle").stop()
