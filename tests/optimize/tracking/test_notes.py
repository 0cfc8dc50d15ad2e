"""A trial's note is Markdown of ours; what a log or a knob says in it is text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from objectives import Estimate
from optimize.formatting import markdown_text
from optimize.ledger import TrialRecord
from optimize.load.pace import Pace
from optimize.outcome import Role, State
from optimize.report.matrix import to_markdown
from optimize.tracking.notes import trial_note
from tests.hostile import ATTACK, elements, hostile_study, targets

_OURS = {("p",), ("strong",), ("pre",), ("code",), ("table",), ("thead",), ("tbody",), ("tr",), ("th",), ("td",)}


@pytest.mark.parametrize("state", [State.COMPLETED, State.INFEASIBLE, State.FAILED])
def test_nothing_in_a_note_is_markup_but_its_own(state: State) -> None:
    record = TrialRecord(
        study="s",
        number=3,
        role=Role.SEARCH,
        params={},
        config={"deploy_command": f"vllm serve\n{ATTACK}"},
        signature={},
    )
    record.state, record.reason, record.evidence = state, f"{ATTACK}\n\n{ATTACK}", [f"log\n{ATTACK}", ATTACK]
    record.cut_short, record.disturbed = ATTACK, [ATTACK, ATTACK]
    record.estimates = {"qps": Estimate(1.0, 0.9, 1.1, 9, "1/s"), ATTACK: Estimate(1.0, 0.9, 1.1, 9, "1/s")}
    record.violations = {ATTACK: 1.0}
    shown = rendered(trial_note(record))
    assert elements(shown) <= _OURS and targets(shown) == []
    assert "attacked=2" in shown


def rendered(markdown: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def test_nothing_in_the_matrix_of_a_study_s_note_is_markup_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = rendered(to_markdown(hostile_study(tmp_path, monkeypatch).rows, markdown_text))
    assert elements(shown) <= _OURS | {("ul",), ("li",)} and targets(shown) == []
    assert "attacked=2" in shown


def test_a_trials_note_tells_how_long_its_window_was_and_why() -> None:
    record = TrialRecord("s", 1, Role.SEARCH, {}, {}, {}, state=State.COMPLETED, seconds={"window": 132.04})
    assert "Window: 132.0 s\n" in f"{trial_note(record)}\n"
    record.audit, record.pace = {"sent": 26}, asdict(Pace(20.0, 120.0, 24, 100, 8.0))
    assert "Window: 132.0 s, 26 requests; 100 answers in at least 8 s were asked for; an answer takes" in trial_note(
        record
    )
