"""A trial's note is Markdown of ours; what a log or a knob says in it is text."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from objectives import Estimate
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.tracking.notes import trial_note
from tests.hostile import ATTACK, elements, targets

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
    record.estimates = {"qps": Estimate(1.0, 0.9, 1.1, 9, "1/s")}
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(trial_note(record))
    assert elements(shown) <= _OURS and targets(shown) == []
    assert "attacked=2" in shown
