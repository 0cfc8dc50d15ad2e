from __future__ import annotations

import threading

import pytest

from optimize.tracking.background import Background


def test_work_holds_still_between_its_steps_while_held() -> None:
    background, done, first, go_on = Background("test"), [], threading.Event(), threading.Event()

    def work() -> None:
        for number in range(3):
            background.step()
            done.append(number)
            first.set()
            go_on.wait(30)

    background.submit(work)
    assert first.wait(30)
    threading.Timer(0.1, go_on.set).start()
    with background.held():  # waits for the step that is being taken
        assert go_on.is_set()
        count = len(done)
        background.submit(lambda: done.append("next"))  # type: ignore[arg-type]
        assert not threading.Event().wait(0.2)
        assert len(done) == count < 4
    background.finish()
    assert done == [0, 1, 2, "next"]


def test_what_an_action_raises_is_raised_at_the_end_and_stops_nothing() -> None:
    background, done = Background("test"), threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    background.submit(fail)
    background.submit(done.set)
    with pytest.raises(ZeroDivisionError):
        background.finish()
    assert done.is_set()


def test_an_interrupt_while_waiting_for_a_step_leaves_nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    background, done = Background("test"), threading.Event()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(background._changed, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt), background.held():
            raise AssertionError
    background.submit(done.set)
    background.finish()
    assert done.is_set()


def test_catching_up_waits_and_leaves_errors_to_the_end() -> None:
    background, done = Background("test"), []
    background.submit(lambda: done.append(1))
    background.submit(lambda: 1 / 0)  # type: ignore[arg-type]
    background.catch_up()
    assert done == [1]
    with pytest.raises(ZeroDivisionError):
        background.finish()
