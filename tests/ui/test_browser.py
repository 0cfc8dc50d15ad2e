"""The browser of these tests outlives its own death: it takes one test with it, not all that follow."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def test_a_browser_that_died_is_started_anew_for_the_next_page(browser: Browser) -> None:
    first = browser.pid
    os.kill(first, signal.SIGKILL)
    with browser.page() as page:
        assert page.run("1 + 1") == 2
    assert browser.pid != first


def test_a_start_in_vain_is_followed_by_another(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    start, pids = browser._start, list[int]()

    def first_start_in_vain() -> tuple[subprocess.Popen[str], str]:
        process, address = start()
        pids.append(process.pid)
        if len(pids) == 1:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return process, address

    monkeypatch.setattr(browser, "_start", first_start_in_vain)
    os.kill(browser.pid, signal.SIGKILL)
    with browser.page() as page:
        assert page.run("1 + 1") == 2
    assert len(pids) == 2 and browser.pid == pids[1]
