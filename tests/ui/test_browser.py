"""The browser of these tests outlives its own death: it takes one test with it, not all that follow."""

from __future__ import annotations

import os
import signal

import pytest

from tests.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def test_a_browser_that_died_is_started_anew_for_the_next_page(browser: Browser) -> None:
    first = browser.pid
    os.kill(first, signal.SIGKILL)
    with browser.page() as page:
        assert page.run("1 + 1") == 2
    assert browser.pid != first
