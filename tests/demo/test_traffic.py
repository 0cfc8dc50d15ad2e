"""The workloads that look like traffic: they are reproduced to the byte, grow as conversations do, and vary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.traffic import published
from demo.traffic.__main__ import FOLDER, SEED, WORKLOADS, lines
from demo.traffic.conversations import sharegpt
from demo.traffic.summary import (
    distinct_grams,
    gzip_ratio,
    shared_prefix,
    summary,
    table,
    type_token_ratio,
    unique_texts,
)
from optimize.config.compose import configuration
from optimize.load.trace import Trace
from optimize.workload.workload import load_workload


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _messages(name: str) -> list[list[str]]:
    prompts = [row["prompt"] for row in _rows(name)]
    return [[p] if isinstance(p, str) else [message["content"] for message in p] for p in prompts]


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_shipped_file_is_what_the_command_writes(name: str) -> None:
    assert (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8") == lines(name), "run python -m demo.traffic"


@pytest.mark.parametrize(
    ("name", "least", "bound"), [("conversations", 280, 64), ("documents", 60, 64), ("completions", 270, 32)]
)
def test_a_choice_of_workload_loads_its_file(name: str, least: int, bound: int, tmp_path: Path) -> None:
    source = configuration([f"workload={name}"]).workload
    workload = load_workload(source, "no/model", tmp_path)
    assert len(workload.prompts) == len(_rows(name)) >= least
    assert (list(workload.references), workload.max_tokens) == ([], bound)
    assert workload.limits == [min(row["max_tokens"], bound) for row in _rows(name)]
    assert len(set(workload.limits)) > 10, "limits vary below the bound"
    assert workload.in_order == (name == "conversations")


def test_every_request_holds_the_history_of_its_conversation() -> None:
    latest: dict[int, dict[str, Any]] = {}
    times = []
    for row in _rows("conversations"):
        roles = [message["role"] for message in row["prompt"]]
        assert roles == ["system", *["user", "assistant"] * (row["turn"] - 1), "user"]
        before = latest.get(row["conversation"])
        assert (0 if before is None else before["turn"]) == row["turn"] - 1
        assert before is None or row["prompt"][: len(before["prompt"])] == before["prompt"]
        assert before is None or row["offset_s"] > before["offset_s"]
        assert all(message["content"].strip() for message in row["prompt"])
        latest[row["conversation"]] = row
        times.append(row["offset_s"])
    assert times == sorted(times)
    assert len({row["prompt"][0]["content"] for row in latest.values()}) == 1, "all share one system prompt"


def test_a_trace_replays_the_conversations_at_their_pace() -> None:
    trace = Trace(str(FOLDER / "conversations.jsonl"))
    rows = _rows("conversations")
    assert not trace.has_contents
    assert trace.first_rate_per_s == pytest.approx(len(rows) / rows[-1]["offset_s"], rel=0.02)


def test_turns_and_lengths_follow_the_published_figures() -> None:
    rows = _rows("conversations")
    talks = {row["conversation"] for row in rows}
    assert len(rows) / len(talks) == pytest.approx(published.TURNS, abs=0.2)
    limits = [row["max_tokens"] for row in rows]
    assert sum(limits) / len(limits) == pytest.approx(published.CHAT_ANSWER, rel=0.2)
    documents = [sum(map(published.tokens, prompt)) for prompt in _messages("documents")]
    assert sum(documents) / len(documents) == pytest.approx(published.DOCUMENT, rel=0.15)
    assert max(documents) < 1600, "room for other vocabularies within a context of 2,048"


@pytest.mark.parametrize(
    ("name", "grams", "size"), [("conversations", 0.98, 0.4), ("documents", 0.55, 0.35), ("completions", 0.99, 0.45)]
)
def test_texts_do_not_repeat_each_other(name: str, grams: float, size: float) -> None:
    texts, demo = unique_texts(_messages(name)), unique_texts(_messages("chat"))
    assert distinct_grams(texts) > grams
    assert type_token_ratio(texts) > 1.3 * type_token_ratio(demo)
    assert gzip_ratio(texts) > size
    assert len({json.dumps(row["prompt"]) for row in _rows(name)}) == len(_rows(name))


def test_measures_of_variety_tell_repetition_from_prose() -> None:
    same = ["the dog sees the cat in the old garden today"] * 50
    assert distinct_grams(same) == pytest.approx(3 / 150)
    assert distinct_grams(["too short"]) == 1.0
    assert type_token_ratio(same, size=100) == pytest.approx(0.08)
    assert gzip_ratio(same) < 0.1


def test_a_prefix_counts_as_shared_once_an_earlier_request_holds_it() -> None:
    prompts = [["s", "a b"], ["s", "c"], ["s", "a b", "x", "y"]]
    assert shared_prefix(prompts, published.tokens) == pytest.approx((1 + 3) / (3 + 2 + 5))


def test_the_summary_has_the_same_figures_for_every_workload() -> None:
    files = [FOLDER / f"{name}.jsonl" for name in ("conversations", "chat")]
    assert [line.count("|") for line in table(files).splitlines()] == [4] * (2 + len(summary(files[0])))


def test_conversations_can_be_written_in_the_form_of_sharegpt() -> None:
    chats = sharegpt(SEED)
    assert [chat["id"] for chat in chats[:2]] == ["conversation-0", "conversation-1"]
    for chat in chats:  # a question and its answer in turn, which vLLM's own reader expects as well
        assert [text["from"] for text in chat["conversations"]] == ["human", "gpt"] * (len(chat["conversations"]) // 2)
    questions = {text["value"] for chat in chats for text in chat["conversations"][::2]}
    assert questions == {row["prompt"][-1]["content"] for row in _rows("conversations")}
