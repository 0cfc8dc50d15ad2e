"""Conversations within a model's context: what is judged beforehand, and what they end by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.workload.context import Context
from optimize.workload.fitting import fitted_workload
from optimize.workload.workload import Workload
from tests.conftest import ROOT
from tests.overrides import changed

DEMO = str(ROOT / "demo/model")
SHORT, LONG = "the old man", "the old man sees a small house and the dog " * 30


def chat(*questions: str) -> dict[str, Any]:
    pairs = [[{"role": "user", "content": q}, {"role": "assistant", "content": "ja"}] for q in questions]
    return {"prompt": [message for pair in pairs for message in pair]}


def fitted(folder: Path, rows: list[dict[str, Any]], *overrides: str) -> Workload:
    path = folder / "chats.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    settings = [
        f"workload.path={path}",
        "workload.reference_column=null",
        "workload.max_tokens=16",
        "workload.turns=all",
    ]
    config: StudyConfig = changed(f"cache_dir={folder}/cache", f"model.path={DEMO}", *settings, *overrides)
    return fitted_workload(config, Context(100, "max_model_len")).workload


def test_a_conversation_whose_first_turn_is_too_long_is_left_out_whole(tmp_path: Path) -> None:
    rows = [chat(SHORT, SHORT), chat(LONG, SHORT, SHORT), *[chat(f"{SHORT} {n}") for n in range(20)]]
    workload = fitted(tmp_path, rows)
    talks = workload.conversations
    assert talks is not None and len(talks.rows) == 21 and len(workload.prompts) == 22
    assert "1 left out: row 2 " in workload.notes[-1] and all(LONG not in str(prompt) for prompt in workload.prompts)


@pytest.mark.parametrize("too_long", ["leave_out", "cut"])
def test_a_later_turn_that_is_too_long_is_left_to_the_conversation(tmp_path: Path, too_long: str) -> None:
    rows = [chat(SHORT, LONG, SHORT), chat(LONG)]
    workload = fitted(tmp_path, rows, f"workload.too_long={too_long}")
    talks = workload.conversations
    assert talks is not None and talks.rows == [[0, 1, 2]] and talks.context == 100
    assert talks.tokens[0] < 40 < 100 < talks.tokens[1]


def test_many_conversations_that_cannot_begin_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 of 2 rows do not fit with their answers into max_model_len"):
        fitted(tmp_path, [chat(SHORT), chat(LONG)])


def test_of_a_recorded_history_the_whole_prompt_counts(tmp_path: Path) -> None:
    live, recorded = (
        fitted(tmp_path, [chat(SHORT, SHORT, SHORT)], f"workload.history={history}").conversations
        for history in ("model", "recorded")
    )
    assert live is not None and recorded is not None
    assert live.tokens[0] == live.tokens[1] == live.tokens[2] == recorded.tokens[0]
    assert recorded.tokens[1] - recorded.tokens[0] == recorded.tokens[2] - recorded.tokens[1] > live.tokens[1]
