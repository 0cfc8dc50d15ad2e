"""One browser and one report of made-up trials for all tests of pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.report.data import Facts
from optimize.report.page import write_report
from optimize.testing.made_up_study import made_up
from tests.browser import Browser, Page, chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.page() as opened:
        yield opened


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Forty made-up trials."""
    return made_up(tmp_path_factory.mktemp("made-up"), 40)


@pytest.fixture(scope="session")
def report(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their report."""
    return write_report(facts, tmp_path_factory.mktemp("report"), "http://127.0.0.1:5000")[0]
