"""Which requests another engine can go on with, and what it is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from optimize.serve.stream_request import CHAT, COMPLETIONS, stream_request

SAID = [{"role": "user", "content": "a"}]
TEXT: dict[str, Any] = {"prompt": "a", "stream": True}


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"n": 1, "logprobs": None, "echo": False, "suffix": None}, {"prompt": [1, 2]}, {"stop": "a"},
        {"presence_penalty": 0.0, "frequency_penalty": 0}, {"tools": [], "tool_choice": "auto"},
        {"response_format": {"type": "text"}, "bad_words": []}, {"temperature": 0.7, "seed": 1, "top_p": 0.5},
    ],
)  # fmt: skip
def test_plain_streams_qualify(fields: dict[str, Any]) -> None:
    assert stream_request(COMPLETIONS, TEXT | fields) is not None
    assert stream_request(CHAT, {"messages": SAID, "stream": True} | fields) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": False}, {"stream": "true"}, {"n": 2}, {"use_beam_search": True}, {"echo": True}, {"suffix": "a"},
        {"logprobs": 0}, {"logprobs": 2}, {"prompt_logprobs": 1}, {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}}, {"structured_outputs": {"regex": "a"}}, {"guided_json": {"a": 1}},
        {"presence_penalty": 0.1}, {"frequency_penalty": -1}, {"bad_words": ["a"]}, {"return_token_ids": True},
        {"prompt": ["a", "b"]}, {"prompt": [[1], [2]]}, {"prompt": [True]}, {"prompt": None}, {"prompt_embeds": "a"},
        {"max_tokens": "9"}, {"max_tokens": 9.5}, {"max_tokens": -1}, {"min_tokens": True}, {"stop": [1]}, {"stop": 1},
        {"stream_options": "a"}, {"kv_transfer_params": {"a": 1}}, {"vllm_xargs": {"a": 1}}, {"a_future_field": 1},
    ],
)  # fmt: skip
def test_whatever_another_engine_could_not_do_alike_disqualifies(fields: dict[str, Any]) -> None:
    assert stream_request(COMPLETIONS, TEXT | fields) is None


@pytest.mark.parametrize("content", [[{"type": "image_url"}], [{"type": "text"}, {"type": "input_audio"}], 1])
def test_messages_of_more_than_text_do_not_qualify(content: object) -> None:
    fields = {"messages": [{"role": "user", "content": content}], "stream": True}
    assert stream_request(CHAT, fields) is None
    assert stream_request(CHAT, {"messages": "a", "stream": True}) is None
    fields["messages"] = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert stream_request(CHAT, fields) is not None


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/models"])
def test_other_apis_do_not_qualify(path: str) -> None:
    assert stream_request(path, TEXT | {"messages": SAID}) is None


def test_the_continuation_keeps_what_decides_about_tokens_and_leaves_out_what_made_the_prompt() -> None:
    fields = {
        "messages": SAID, "stream": True, "chat_template_kwargs": {"a": 1}, "truncate_prompt_tokens": 5, "n": 1,
        "max_completion_tokens": 10, "max_tokens": 99, "min_tokens": 3, "temperature": 0.5, "stop": ["x"], "tools": [],
    }  # fmt: skip
    stream = stream_request(CHAT, fields)
    assert stream is not None
    assert json.loads(stream.encoded) == fields | {"return_token_ids": True}
    assert json.loads(stream.continuation([7, 8], [9, 9], 100) or b"{}") == {
        "prompt": [7, 8, 9, 9], "stream": True, "temperature": 0.5, "stop": ["x"], "max_tokens": 8, "min_tokens": 1,
        "return_token_ids": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "fields", "length_max", "limit"),
    [
        (COMPLETIONS, {}, None, 14), (COMPLETIONS, {"max_tokens": 9}, None, 7), (COMPLETIONS, {"max_tokens": 9}, 6, 1),
        (CHAT, {"max_tokens": 9}, None, 7), (CHAT, {}, 50, 45), (CHAT, {"max_tokens": None}, 50, 45),
    ],
)  # fmt: skip
def test_a_limit_counts_the_tokens_that_the_client_has(
    path: str, fields: dict[str, Any], length_max: int | None, limit: int
) -> None:
    stream = stream_request(path, {"messages": SAID, **TEXT, **fields})
    assert stream is not None
    assert json.loads(stream.continuation([1, 2, 3], [4, 5], length_max) or b"{}")["max_tokens"] == limit


def test_without_any_limit_nobody_goes_on() -> None:
    stream = stream_request(CHAT, {"messages": SAID, "stream": True})
    assert stream is not None and stream.continuation([1], [2], None) is None
