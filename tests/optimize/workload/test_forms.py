"""The forms of files that people have, each read without naming a column, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optimize.config.measuring import FORMATS, WorkloadSource
from optimize.errors import ConfigError
from optimize.workload.forms import FORMS
from optimize.workload.reading import read
from tests.optimize.workload.files import jsonl, load, pairs, written

ASKED = [{"role": "user", "content": "How far?"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "Ten miles."}]
SHAREGPT = [{"from": "human", "value": "How far?"}, {"from": "gpt", "value": "Ten miles."}]
TOOLS = [{"type": "function", "function": {"name": "ask", "parameters": {"type": "object", "default": None}}}]
HARNESS = {"doc": {"q": "How far?"}, "target": "Ten miles.", "resps": [["x"]]}


ROWS: list[tuple[str, dict[str, Any], Any, str | None, int]] = [
    ("sharegpt", {"id": "a", "conversations": SHAREGPT}, ASKED, "Ten miles.", 40),
    ("sharegpt", {"conversation": ANSWERED, "turn": 1, "model": "m"}, ASKED, "Ten miles.", 40),
    ("messages", {"messages": ANSWERED}, ASKED, "Ten miles.", 40),
    ("messages", {"messages": json.dumps(ANSWERED)}, ASKED, "Ten miles.", 40),
    ("messages", {"messages": ASKED, "reference": "Ten."}, ASKED, "Ten.", 40),
    ("messages", {"messages": ANSWERED, "reference": "Ten."}, ASKED, "Ten.", 40),
    (
        "batch", {"custom_id": "r0", "url": "/v1/chat/completions", "body": {"messages": ASKED, "max_tokens": 7}},
        ASKED, None, 7,
    ),
    ("batch", {"custom_id": "r0", "body": {"prompt": "How far?", "max_tokens": 7}}, "How far?", None, 7),
    ("batch", {"custom_id": "r0", "body": {"input": "How far?", "max_output_tokens": 7}}, "How far?", None, 7),
    ("mt_bench", {"question_id": 1, "category": "c", "turns": ["How far?", "And back?"]}, ASKED, None, 40),
    ("mt_bench", {"turns": ["How far?", "And back?"], "reference": ["Ten miles.", "Ten."]}, ASKED, "Ten miles.", 40),
    ("lm_eval", {**HARNESS, "arguments": [["How far?", {"max_gen_toks": 9}]]}, "How far?", "Ten miles.", 9),
    (
        "lm_eval", {**HARNESS, "arguments": {"gen_args_0": {"arg_0": "How far?", "arg_1": {"until": ["."]}}}},
        "How far?", "Ten miles.", 40,
    ),
    (
        "lm_eval", {**HARNESS, "target": 1, "arguments": [["How far?", " Two."], ["How far?", " Ten miles."]]},
        "How far?", "Ten miles.", 40,
    ),
    ("lm_eval", {**HARNESS, "target": ["Ten.", "10"], "arguments": [["How far?"]]}, "How far?", "Ten.", 40),
    ("alpaca", {"instruction": "How far?", "input": "", "output": "Ten miles."}, "How far?", "Ten miles.", 40),
    ("alpaca", {"instruction": "How", "input": "far?", "output": "Ten."}, "How\n\nfar?", "Ten.", 40),
    ("dolly", {"instruction": "How", "context": "far?", "response": "Ten."}, "How\n\nfar?", "Ten.", 40),
    ("gsm8k", {"question": "How far?", "answer": "10 miles\n#### 10"}, "How far?", "10 miles\n#### 10", 40),
    ("gsm8k", {"question": "How far?", "context": "A road.", "answer": 10}, "How far?\n\nA road.", "10", 40),
    ("completion", {"prompt": "How far?", "completion": " Ten miles."}, "How far?", " Ten miles.", 40),
    ("completion", {"prompt": ASKED, "completion": ANSWERED[1:]}, ASKED, "Ten miles.", 40),
    ("custom", {"prompt": "How far?", "output_tokens": 7}, "How far?", None, 7),
    ("guidellm", {"prompt": "How far?", "prompt_tokens_count": 2, "output_tokens_count": 7}, "How far?", None, 7),
    ("pairs", {"input": "How far?", "output": "Ten miles."}, "How far?", "Ten miles.", 40),
    ("pairs", {"query": "How far?", "response": "Ten miles."}, "How far?", "Ten miles.", 40),
    ("prompts", {"prompt": "How far?", "chosen": "a", "rejected": "b"}, "How far?", None, 40),
    ("text", {"text": "How far?", "label": 1}, "How far?", None, 40),
    ("text", {"anything": "How far?"}, "How far?", None, 40),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "prompt", "reference", "bound"), ROWS)
@pytest.mark.parametrize("named", [False, True])
def test_a_form_is_read_by_itself_and_by_its_name(
    name: str, row: dict[str, Any], prompt: Any, reference: str | None, bound: int, named: bool, tmp_path: Path
) -> None:
    named = named and row.keys() != {"anything"}
    workload = load(jsonl(tmp_path, [row, row]), format=name if named else "auto")
    assert list(workload.prompts) == [prompt] * 2
    assert list(workload.references) == ([] if reference is None else [reference] * 2)
    assert workload.bound(0) == bound
    assert len(workload.notes) == 1 and "\n" not in workload.notes[0]


def test_every_form_can_be_named() -> None:
    assert list(FORMATS) == list(dict.fromkeys(("auto", "prompts", *(form.name for form in FORMS))))
    assert {name for name, *_ in ROWS} == {form.name for form in FORMS}


def test_what_was_taken_for_what_is_said_in_a_line(tmp_path: Path) -> None:
    """As the first line of a study on a file of ShareGPT conversations."""
    rows = [{"conversations": SHAREGPT}] * 12 + [{"conversations": SHAREGPT[1:]}] * 2 + [{"conversations": []}]
    path = written(tmp_path, "x.json", json.dumps([*rows, {"conversations": SHAREGPT[:1]}]))
    assert list(load(path).notes) == [
        f"workload file: {path}: 13 conversations in ShareGPT's form (conversations); the last answer of each is the "
        "reference; 1 row without an answer left out; 3 rows without a question left out"
    ]
    assert len(load(path).prompts) == 12


def test_where_many_have_no_answer_none_is_taken_for_a_reference(tmp_path: Path) -> None:
    workload = load(jsonl(tmp_path, [{"messages": ANSWERED}, {"messages": ASKED}]))
    assert list(workload.prompts) == [ASKED, ASKED] and not workload.references
    assert "1 rows have no answer, so none of the answers is taken as a reference" in workload.notes[0]


def test_an_answer_at_the_end_is_never_sent(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"messages": ANSWERED, "prompt": ANSWERED, "reference": "Ten."}])
    for settings in ({}, {"prompt_column": "messages"}, {"prompt_column": "messages", "reference_column": None}):
        assert list(load(path, **settings).prompts) == [ASKED]
    assert load(path, prompt_column="messages", reference_column=None).references == []


def test_a_long_conversation_keeps_its_history(tmp_path: Path) -> None:
    turns = [
        {"from": "gpt", "value": "Hello!"},
        *SHAREGPT,
        {"from": "user", "value": "And back?"},
        {"from": "gpt", "value": "Ten."},
    ]
    workload = load(jsonl(tmp_path, [{"system": "Be brief.", "conversations": turns}]))
    later = {"role": "user", "content": "And back?"}
    assert pairs(workload) == [([{"role": "system", "content": "Be brief."}, *ANSWERED, later], "Ten.")]
    source = WorkloadSource("file", str(tmp_path / "mine.jsonl"))
    (example,) = read(source, tmp_path).examples
    assert [m["role"] for m in example.messages or []] == ["system", "user", "assistant", "user", "assistant"]


def test_tools_calls_and_parts_reach_the_request_as_they_are(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "ask", "arguments": '{"a": null}'}}
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png,x"}}]
    messages = [
        {"role": "user", "content": parts, "name": "u1"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "A dog."},
    ]
    answer = {"role": "assistant", "content": "A dog.", "weight": 1}
    workload = load(jsonl(tmp_path, [{"messages": [*messages, answer], "tools": TOOLS}, {"messages": ANSWERED}]))
    assert pairs(workload) == [(messages, "A dog."), (ASKED, "Ten miles.")]
    assert workload.fields == [{"tools": TOOLS}, {}]
    assert workload.only([1]).fields == [{}] and workload.hash != load(jsonl(tmp_path, [{"messages": ANSWERED}])).hash


def test_calls_of_functions_in_sharegpts_form_are_those_of_a_chat(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "Weather?"},
        {"from": "function_call", "value": '{"name": "w", "arguments": {"x": 1}}'},
        {"from": "observation", "value": "sunny"},
        {"from": "gpt", "value": "Sunny."},
    ]
    workload = load(jsonl(tmp_path, [{"conversations": turns, "tools": json.dumps(TOOLS)}]))
    ((question, answer),) = pairs(workload)
    assert question[1]["tool_calls"][0]["function"] == {"name": "w", "arguments": '{"x": 1}'}
    assert question[2] == {"role": "tool", "content": "sunny", "tool_call_id": question[1]["tool_calls"][0]["id"]}
    assert answer == "Sunny." and workload.fields == [{"tools": TOOLS}]


def test_keys_that_parquet_fills_with_null_are_not_sent(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "How far?", "name": None, "tool_calls": None},
        {"role": "assistant", "content": "Ten miles.", "name": "a", "tool_calls": [{"id": "c", "extra": None}]},
        {"role": "user", "content": "And back?", "name": None, "tool_calls": None},
    ]
    pq.write_table(pa.Table.from_pylist([{"messages": messages}]), tmp_path / "mine.parquet")
    expected = [
        {"role": "user", "content": "How far?"},
        {"role": "assistant", "content": "Ten miles.", "name": "a", "tool_calls": [{"id": "c"}]},
        {"role": "user", "content": "And back?"},
    ]
    for path in (tmp_path / "mine.parquet", jsonl(tmp_path, [{"messages": messages}])):
        assert list(load(path).prompts) == [expected]


def test_columns_of_parquet_are_text_whatever_type_keeps_it(tmp_path: Path) -> None:
    texts = ["How far?", "How far?"]
    for column in (
        pa.array(texts).dictionary_encode(),
        pa.array(texts, pa.large_string()),
        pa.array(texts, pa.binary()),
    ):
        pq.write_table(pa.table({"prompt": column, "reference": pa.array([1.5, 2.0])}), tmp_path / "mine.parquet")
        assert pairs(load(tmp_path / "mine.parquet")) == [("How far?", "1.5"), ("How far?", "2.0")]


def test_a_dotted_name_leads_into_objects(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"body": {"messages": ASKED, "tools": TOOLS}, "out": {"text": "Ten.", "n": 3}}])
    workload = load(
        path, prompt_column="body.messages", reference_column="out.text", max_tokens_column="out.n"
    )  # fmt: skip
    assert pairs(workload) == [(ASKED, "Ten.")] and workload.limits == [3] and workload.fields == [{"tools": TOOLS}]
    with pytest.raises(ConfigError, match="prompt_column='body.mesages' is not a column"):
        load(path, prompt_column="body.mesages")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "How far?", "messages": ASKED},
            r"can be read as conversations of chat messages \(workload\.format=messages\) or prompts "
            r"\(workload\.format=prompts\): set which",
        ),
        (
            {"question": "a b", "answer": "c", "response": "d"},
            r"workload\.prompt_column=question workload\.reference_column=response",
        ),
        ({"title": "a b", "body": "c d"}, r"of no known form \(sharegpt, .*: set workload\.prompt_column"),
        ({"timestamp": 0, "input_length": 4}, r"load=trace load\.arrivals\.path"),
    ],
)
def test_where_no_reading_or_two_are_sensible_one_line_says_what_decides(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        load(jsonl(tmp_path, [row]))
    assert "\n" not in str(refusal.value)


def test_what_decides_between_two_readings_does_decide(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"prompt": "How far?", "messages": ANSWERED}])
    assert list(load(path, format="prompts").prompts) == ["How far?"]
    assert pairs(load(path, format="messages")) == [(ASKED, "Ten miles.")]
    path = jsonl(tmp_path, [{"question": "a b", "answer": "c", "response": "d"}])
    assert pairs(load(path, prompt_column="question", reference_column="response")) == [("a b", "d")]
    with pytest.raises(ConfigError, match=r"workload\.format=alpaca does not fit .*question, answer, response"):
        load(path, format="alpaca")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"conversations": SHAREGPT}, {"conversations": [{"from": "alien", "value": "x"}]}],
            "line 2: conversations has a",
        ),
        (
            [{"conversations": SHAREGPT}, {"conversations": "How far?"}],
            "line 2: conversations must be text or a list of",
        ),
        (
            [{"conversations": [{"from": "human", "value": 3.5e3}, {"from": "gpt", "value": None}]}],
            "that is no text, got None",
        ),
        ([{"messages": "[{"}], r"messages is a list that is not valid JSON"),
        ([{"custom_id": "r", "body": {"input": [1, 2]}}], "body.*must be text or a list"),
        ([{"turns": ["a b", 3]}], "turns must be text"),
        ([{"instruction": "a", "input": "", "output": None}], "line 1: output must be text, got None"),
        ([{"prompt": "a", "output_tokens": 0}], "output_tokens must be a whole number from 1, got 0"),
        ([{"conversations": SHAREGPT[1:]}], "no rows that ask anything"),
        ([{**HARNESS, "arguments": []}], "arguments must hold the context"),
        ([{"conversations": [{"from": "function_call", "value": "w(1)"}]}], "function_call that is no object"),
    ],
)
def test_a_row_that_is_not_of_its_form_is_named_and_shown(rows: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        load(jsonl(tmp_path, rows))
    assert "mine.jsonl" in str(refusal.value)
