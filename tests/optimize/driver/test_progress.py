"""What a study shows on a terminal."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO

import pytest
from rich.progress import Progress as Bars
from rich.table import Table

from optimize.driver.forecast import Forecast
from optimize.driver.progress import Progress
from optimize.formatting import terminal
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.quantize.steps import Steps

ODD = "[red]x[/red] [/] [link=http://evil.example]y[/link] [bold :boom:"


@pytest.fixture(autouse=True)
def _on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")


def _plain(shown: str) -> str:
    """The text on the screen: without the codes that move the cursor and set colours."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_a_knobs_value_is_shown_as_it_is() -> None:
    record = TrialRecord(study="s", number=1, role=Role.SEARCH, params={"dtype": ODD}, config={}, signature={})
    record.state, record.reason = State.INFEASIBLE, ODD
    shown = StringIO()
    with redirect_stdout(shown), Progress(2, ["qps"]) as progress:
        progress.trial(record)
        progress.phase(f"window {ODD}")
        progress.finished(record, counts=True, best=lambda: ODD)
        progress.phase("end")
        progress.say(ODD)
    text = _plain(shown.getvalue())
    assert f"trial 1 (1 of 2): dtype={ODD}" in text and f"window {ODD}, 0 s …" in text
    assert f"best so far: {ODD}" in text and f"infeasible: {ODD}" in text
    assert text.count(ODD) == text.count("evil.example") == text.count("boom") > 6


def test_what_a_server_says_commands_no_terminal() -> None:
    shown = StringIO()
    with redirect_stdout(shown), Progress(2, ["qps"]) as progress:
        progress.say("refused: \x1b]52;c;ZXZpbA==\x07 and \x9b2J\nnext")
    assert r"refused: \x1b]52;c;ZXZpbA==\x07 and \x9b2J" in shown.getvalue() and "\nnext" in shown.getvalue()


def test_a_recipes_name_is_shown_as_it_is() -> None:
    shown = StringIO()
    with redirect_stdout(shown), Steps(ODD) as steps:
        steps.event({"step": "saving"})
        steps.event({"share": 0.5})
        assert isinstance(steps._bar, Bars)
        steps._bar.refresh()
    assert f"{ODD}: saving" in _plain(shown.getvalue())


def test_a_table_shows_its_title_heads_and_cells_as_they_are() -> None:
    shown = StringIO()
    with redirect_stdout(shown):
        table = Table(ODD, title=f"title {ODD}")
        table.add_row(f"cell {ODD}")
        terminal().print(table)
    assert all(f"{part}{ODD}" in _plain(shown.getvalue()) for part in ("title ", "cell ", ""))


def test_the_end_is_told_after_the_baseline_and_with_every_trial() -> None:
    shown, progress_of = StringIO(), Forecast(25, 12)
    baseline = TrialRecord("s", 0, Role.BASELINE, {}, {}, {}, State.COMPLETED, baseline=True, seconds={"total": 60.0})
    trial = TrialRecord("s", 1, Role.SEARCH, {}, {}, {}, State.COMPLETED, seconds={"total": 60.0})
    with redirect_stdout(shown), Progress(25, []) as progress:
        assert progress.outlook() == ""
        progress.expect(progress_of)
        progress.finished(baseline, counts=True, best=str)
        outlook = progress.outlook()
        progress.finished(trial, counts=True, best=str)
    end = r"until (\w+ )?\d\d:\d\d"
    assert re.fullmatch(
        rf"about 36 minutes for 24 trials and 12 measurements to confirm the best of them, {end}", outlook
    )
    assert re.search(rf"trial 1: .*\[60 s\], about 35 minutes left, {end}", _plain(shown.getvalue()))
