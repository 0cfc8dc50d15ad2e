"""The texts of an answer of the completions APIs, streamed or whole. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_EVENT = b"data:"


def texts_of(body: bytes) -> list[str] | None:
    """The text of each of an answer's choices, in order; None where it is none, such as an error within a stream.

    Args:
        body: JSON, or the events of a stream.
    """
    texts: dict[int, str] = {}
    try:
        for part in _parts(body):
            if "error" in part:
                return None
            for choice in part.get("choices", []):
                index = int(choice.get("index", 0))
                texts[index] = texts.get(index, "") + _text(choice)
    except (ValueError, TypeError, AttributeError):
        return None
    return [texts[index] for index in sorted(texts)] or None


def _parts(body: bytes) -> Iterator[Mapping[str, Any]]:
    if not body.lstrip().startswith(_EVENT):
        yield json.loads(body)
        return
    for line in body.splitlines():
        content = line.removeprefix(_EVENT).strip()
        if line.startswith(_EVENT) and content.startswith(b"{"):
            yield json.loads(content)


def _text(choice: Mapping[str, Any]) -> str:
    """What a choice, or one piece of it, adds: a completion's text, or a message's content and calls of tools."""
    message = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    words = [message.get("reasoning_content"), message.get("reasoning"), message.get("content")]
    calls = [call.get("function", {}) for call in message.get("tool_calls") or []]
    words += [word for call in calls for word in (call.get("name"), call.get("arguments"))]
    return "".join(word for word in words if word)
