"""Conversations in the forms that people keep them in, as chat messages with role and content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from optimize.workload.cells import plain, text_of
from optimize.workload.example import BadCell, Message

_CALL, _CALL_ID = "function_call", "call_0"
_SPEAKERS = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "claude", "model", "bot"), "assistant"),
    **{role: role for role in ("system", "developer", "tool", "function")},
    _CALL: "assistant",
    "observation": "tool",
}
"""Who speaks, in the names that data sets use -> the role in a chat."""
_ASKING = ("user", "tool", "function")
_OF_TRAINING = ("weight",)
"""Keys of OpenAI's files for fine-tuning that no request has."""


class Turns(NamedTuple):
    """A conversation cut before its last answer: the messages up to there, and the answer's text, if it has any."""

    question: list[Message]
    answer: str | None


def is_conversation(value: object) -> bool:
    """Whether a cell is a list of messages: with role and content, or with from and value."""
    return _is_list(value) and len(value) > 0 and all(_is_message(turn) or _is_turn(turn) for turn in value)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_message(turn: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(turn, dict) and isinstance(turn.get("role"), str) and ("content" in turn or "tool_calls" in turn)


def _is_turn(turn: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(turn, dict) and isinstance(turn.get("from"), str) and "value" in turn


def messages_of(value: object, column: str) -> list[Message]:
    """The messages of a cell.

    Raises:
        BadCell: it is no conversation, or somebody unknown speaks in it.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):  # a CSV can hold a list as JSON's text alone
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadCell(f"{column} is a list that is not valid JSON ({error}): {value!r:.60}") from error
    if not _is_list(value) or not all(_is_message(turn) or _is_turn(turn) for turn in value):
        raise BadCell(f"{column} must be text or a list of messages with role and content, got {value!r:.80}")
    return [_message(turn) if _is_message(turn) else _from_turn(turn, column) for turn in value]


def _message(turn: Mapping[str, Any]) -> Message:
    """A message with the keys that it has in its row, in their order, but for those that are null."""
    sent = {k: without_nulls(v) for k, v in turn.items() if k not in _OF_TRAINING and (v is not None or k == "content")}
    sent["role"] = _SPEAKERS.get(turn["role"], turn["role"])
    sent.setdefault("content", None)
    return sent


def without_nulls(value: Any) -> Any:
    """A part of a message without the keys that are null in it, but for the arguments of a call, as they are."""
    if isinstance(value, Mapping):
        parts = value.items()
        return {k: plain(v) if k == "arguments" else without_nulls(v) for k, v in parts if v is not None}
    return [without_nulls(part) for part in value] if _is_list(value) else plain(value)


def _from_turn(turn: Mapping[str, Any], column: str) -> Message:
    """A turn of ShareGPT's form; a call of a function and what it gave are those of a chat."""
    speaker = turn["from"].strip().lower()
    role, text = _SPEAKERS.get(speaker), text_of(turn["value"])
    if role is None:
        raise BadCell(f"{column} has a turn of {turn['from']!r:.40}; valid: {', '.join(_SPEAKERS)}")
    if text is None:
        raise BadCell(f"{column} has a turn of {turn['from']!r} that is no text, got {turn['value']!r:.80}")
    if speaker == _CALL:
        return {"role": role, "content": None, "tool_calls": [_call(text, column)]}
    return {"role": role, "content": text, **({"tool_call_id": _CALL_ID} if role == "tool" else {})}


def _call(text: str, column: str) -> Message:
    try:
        call = json.loads(text)
        name, arguments = call["name"], call.get("arguments", {})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadCell(
            f"{column} has a function_call that is no object with name and arguments: {text!r:.80}"
        ) from error
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": _CALL_ID, "type": "function", "function": {"name": name, "arguments": written}}


def cut(messages: Sequence[Message]) -> Turns:
    """A conversation as question and answer: what the assistant says last is no part of the question."""
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return Turns(list(messages[:end]), text_within(messages[end]["content"]) if end < len(messages) else None)


def from_question(messages: Sequence[Message]) -> list[Message]:
    """A conversation without the answers before its first question, which belong to a part that is not there."""
    first = next((i for i, message in enumerate(messages) if message["role"] in _ASKING), len(messages))
    return [m for i, m in enumerate(messages) if i >= first or m["role"] != "assistant"]


def asks(messages: Sequence[Message]) -> bool:
    """Whether anything is there to answer."""
    return any(message["role"] in _ASKING for message in messages)


def text_within(content: object) -> str | None:
    """The text of a message's content, which may come in parts; None where it has none."""
    if not _is_list(content):
        return text_of(content)
    texts = [part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    return "".join(texts) or None
