"""Workloads sent turn by turn, as `workload.turns=all` has them loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.traffic.__main__ import SEED
from demo.traffic.conversations import sharegpt
from optimize.config.measuring import ALL, RECORDED, SharedPrefix, WorkloadSource
from optimize.errors import ConfigError
from optimize.workload.shared_prefix import text_of_length, with_shared_prefix
from optimize.workload.tokens import tokenizer_of
from optimize.workload.workload import Workload, load_workload
from tests.conftest import ROOT

MODEL = str(ROOT / "demo/model")


def message(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CHAT = [
    message("system", "Be brief."), message("user", "one"), message("assistant", "eins"), message("user", "two"),
    message("assistant", "zwei"), message("user", "three"),
]  # fmt: skip


def loaded(folder: Path, rows: list[dict[str, Any]], seed: int = 0, **source: Any) -> Workload:
    path = folder / "chats.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    fields: dict[str, Any] = {"max_tokens": 16, "turns": ALL, "reference_column": None, **source}
    return load_workload(WorkloadSource("chats", str(path), **fields), MODEL, folder / "cache", seed)


def test_every_turn_of_a_chat_is_a_row_with_its_recorded_history(tmp_path: Path) -> None:
    workload = loaded(tmp_path, [{"prompt": CHAT}, {"prompt": "a text"}])
    assert list(workload.prompts) == [CHAT[:2], CHAT[:4], CHAT, "a text"]
    talks = workload.conversations
    assert talks is not None and talks.rows == [[0, 1, 2], [3]] and talks.asks[1] == [CHAT[3]]
    assert talks.answers[:2] == [[CHAT[2]], [CHAT[4]]] and talks.live and set(talks.think_s) == {None}
    assert workload.notes[-1] == "workload chats, turn by turn: 2 conversations, 4 turns, 3 in the longest"


def test_a_file_in_the_form_of_sharegpt_needs_no_more_than_its_path(tmp_path: Path) -> None:
    path = tmp_path / "chats.json"
    path.write_text(json.dumps(sharegpt(SEED)), encoding="utf-8")
    workload = load_workload(WorkloadSource("chats", str(path), turns=ALL, max_tokens=64), MODEL, tmp_path / "cache")
    talks = workload.conversations
    assert talks is not None and len(talks.rows) == 150 and len(workload.prompts) == len(workload.references) == 296
    assert workload.references[0] == talks.answers[0][0]["content"] and max(map(len, talks.rows)) == 8
    fine = [row for turns in talks.rows for row in turns[1:]]
    histories: dict[int, Any] = {row: workload.prompts[row] for row in fine}
    assert all(history[-2]["content"] == workload.references[row - 1] for row, history in histories.items())


def test_questions_of_mt_bench_are_asked_in_turn(tmp_path: Path) -> None:
    rows = [
        {"question_id": n, "turns": ["Write a poem.", f"Now without {n}."], "reference": ["A", "B"]} for n in (1, 2)
    ]
    workload = loaded(tmp_path, rows, reference_column="reference")
    talks = workload.conversations
    assert talks is not None and talks.rows == [[0, 1], [2, 3]]
    assert talks.asks[3] == [message("user", "Now without 2.")] and workload.prompts[2] == [
        message("user", "Write a poem.")
    ]


def test_the_shipped_conversations_are_put_together_from_their_requests(tmp_path: Path) -> None:
    path = ROOT / "demo/workloads/conversations.jsonl"
    fields: dict[str, Any] = {
        "reference_column": None,
        "max_tokens_column": "max_tokens",
        "max_tokens": 64,
        "in_order": True,
    }
    last, every = (
        load_workload(WorkloadSource("c", str(path), turns=turns, **fields), MODEL, tmp_path) for turns in ("last", ALL)
    )
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert last.conversations is None and every.conversations is not None
    assert len(every.prompts) == len(rows) and len(every.conversations.rows) == len({r["conversation"] for r in rows})
    assert max(map(len, every.conversations.rows)) == max(r["turn"] for r in rows)
    assert sorted(map(str, every.prompts)) == sorted(map(str, last.prompts))
    assert sorted(every.limits or []) == sorted(last.limits or [])  # each turn keeps the bound of its request


def test_recorded_answers_are_references_where_every_turn_has_one(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": CHAT, "reference": "drei"}, {"prompt": "four", "reference": "vier"}]
    assert list(loaded(tmp_path, rows, reference_column="reference").references) == ["eins", "zwei", "drei", "vier"]
    assert list(loaded(tmp_path, [{"prompt": CHAT}]).references) == []


def test_history_pauses_and_order_of_turns_are_part_of_the_hash(tmp_path: Path) -> None:
    def hashed(**source: Any) -> str:
        return loaded(tmp_path, [{"prompt": CHAT}], **source).hash

    settings: list[dict[str, Any]] = [{}, {"turns": "last"}, {"history": RECORDED}, {"think_time": 2.0}]
    assert len({hashed(**source) for source in settings}) == len(settings)
    assert hashed() == hashed()


def test_think_times_are_drawn_once_and_for_all_trials(tmp_path: Path) -> None:
    rows = [{"prompt": [message("user", f"{n}"), *CHAT[1:]]} for n in range(40)]
    node = {"_target_": "optimize.workload.think_times.Exponential", "mean_s": 3.0, "most_s": 9.0}

    def pauses(seed: int) -> list[float | None]:
        talks = loaded(tmp_path, rows, think_time=node, seed=seed).conversations
        assert talks is not None
        return list(talks.think_s)

    drawn = [pause for pause in pauses(1) if pause is not None]
    assert pauses(1) == drawn and pauses(1) != pauses(2) and 2.0 < sum(drawn) / len(drawn) < 4.0 and max(drawn) == 9.0


def test_recorded_pauses_are_those_between_an_answer_and_the_next_message(tmp_path: Path) -> None:
    times = [0, 1, "1970-01-01T00:00:04+00:00", 10.5, None, 20]
    chat = [
        message if time is None else {**message, "timestamp": time} for message, time in zip(CHAT, times, strict=True)
    ]
    talks = loaded(tmp_path, [{"prompt": chat}], think_time=RECORDED).conversations
    assert talks is not None and talks.think_s == [None, 6.5, None]


@pytest.mark.parametrize("wrong", ["soon", -1.0, {"_target_": "optimize.workload.think_times.Fixed", "seconds": -2}])
def test_a_think_time_that_is_none_is_refused_with_the_rule(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="workload.think_time"):
        loaded(tmp_path, [{"prompt": CHAT}], think_time=wrong)


def test_answers_of_a_set_length_have_it_in_every_turn(tmp_path: Path) -> None:
    node = {"_target_": "optimize.workload.lengths.Fixed", "tokens": 7}
    workload = loaded(tmp_path, [{"prompt": CHAT}], output_tokens=node)
    assert workload.output_tokens == [7, 7, 7] and workload.conversations is not None


# --- shared prefixes -------------------------------------------------------------------------------------------------


def tokens_of(text: str) -> int:
    return len(tokenizer_of(MODEL, "").encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("tokens", [1, 17, 256])
def test_a_shared_text_has_the_stated_number_of_tokens(tokens: int) -> None:
    prompts = [f"the old man sees a small house and {word}" for word in ("dog", "cat", "sun")]
    workload = with_shared_prefix(Workload("w", prompts, [], 8), SharedPrefix(tokens), MODEL, seed=3)
    (text,) = {str(prompt).partition("\n\n")[0] for prompt in workload.prompts}
    assert tokens_of(text) == tokens
    assert [str(prompt).partition("\n\n")[2] for prompt in workload.prompts] == prompts
    assert workload.notes == [
        f"workload w: 3 of 3 prompts begin with a text of {tokens} tokens (workload.shared_prefix)"
    ]


def test_the_length_is_reached_whatever_a_word_takes() -> None:
    import random

    pairs = [(3, 7), (4, 10), (5, 23)]
    for letters, tokens in pairs:  # a word of n letters takes n tokens, and so does a filler
        text = text_of_length(["x" * letters], tokens, lambda t: len(t.replace(" ", "")), random.Random(0))
        assert len(text.replace(" ", "")) == tokens


def test_a_share_of_the_prompts_begins_with_one_of_several_texts_by_seed() -> None:
    plain = Workload("w", [f"prompt number {n}" for n in range(400)], [], 8)

    def beginnings(seed: int) -> list[str]:
        prefixed = with_shared_prefix(plain, SharedPrefix(20, share=0.75, groups=3), MODEL, seed)
        return [str(prompt).partition("\n\n")[0] for prompt in prefixed.prompts if "\n\n" in str(prompt)]

    assert 270 < len(beginnings(0)) < 330 and len(set(beginnings(0))) == 3
    assert beginnings(0) == beginnings(0) != beginnings(1)


def test_of_a_chat_the_shared_text_is_the_system_prompt_or_its_beginning(tmp_path: Path) -> None:
    bare = [message("user", "hello"), message("assistant", "hi"), message("user", "bye")]
    workload = loaded(tmp_path, [{"prompt": CHAT}, {"prompt": bare}])
    prefixed = with_shared_prefix(workload, SharedPrefix(12), MODEL, seed=0)
    talks = prefixed.conversations
    assert talks is not None
    text = talks.asks[3][0]["content"]
    assert tokens_of(text) == 12 and talks.asks[3] == [message("system", text), message("user", "hello")]
    assert talks.asks[0][0] == message("system", f"{text}\n\nBe brief.")
    for turns in talks.rows:  # every later prompt goes on where the first begins
        first = prefixed.prompts[turns[0]]
        assert talks.asks[turns[0]] == first and all(prefixed.prompts[row][: len(first)] == first for row in turns)


def test_without_tokens_nothing_changes() -> None:
    plain = Workload("w", ["a"], [], 8)
    assert with_shared_prefix(plain, SharedPrefix(), "no/model", seed=0) is plain
