"""Chats as turns: every answer that was recorded, and every question that was asked, becomes a request of its own.

A row may hold a whole conversation, or one request of it with its history, as logs of servers do: a row that goes on
where an earlier one stopped belongs to the same conversation. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optimize.workload.example import Message

_ASSISTANT, _ASKING = "assistant", ("user", "tool", "function")


@dataclass
class Turn:
    """One request of a conversation.

    Attributes:
        row: Source row that it comes from.
        history: All messages before those that are new.
        asks: The messages that are new.
        answer: The recorded answer, which may take several messages; empty where none is recorded.
    """

    row: int
    history: list[Message]
    asks: list[Message]
    answer: list[Message] = field(default_factory=list)

    @property
    def text(self) -> str | None:
        """The recorded answer as one text; None where none is recorded, or one is no text."""
        contents = [message.get("content") for message in self.answer]
        texts = [content for content in contents if isinstance(content, str)]
        return "\n\n".join(texts) if texts and len(texts) == len(contents) else None


def turns_of(messages: Sequence[Message], row: int = 0) -> list[Turn]:
    """The turns of one chat.

    Messages of the assistant before anybody has asked belong to the first request. What follows the last answer and
    asks nothing is left out.

    Args:
        messages: All messages, the last answer included where it is recorded.
        row: Source row that they come from.
    """
    turns: list[Turn] = []
    asks: list[Message] = []
    for place, message in enumerate(messages):
        if message["role"] != _ASSISTANT or not (turns or _asks(asks)):
            asks.append(message)
        elif asks:
            turns.append(Turn(row, list(messages[: place - len(asks)]), asks, [message]))
            asks = []
        else:
            turns[-1].answer.append(message)
    if _asks(asks):
        turns.append(Turn(row, list(messages[: len(messages) - len(asks)]), asks))
    return turns


def questions_of(messages: Sequence[Message], first: int, row: int = 0) -> list[Turn]:
    """The turns of questions that follow each other without a recorded answer, as MT-Bench has them.

    Args:
        messages: All questions.
        first: How many of the messages the first turn holds.
        row: Source row that they come from.
    """
    ends = [first, *range(first + 1, len(messages) + 1)]
    starts = [0, *ends]
    return [Turn(row, list(messages[:a]), list(messages[a:b])) for a, b in zip(starts, ends, strict=False)]


def _asks(messages: Sequence[Message]) -> bool:
    return any(message["role"] in _ASKING for message in messages)


def joined(chats: Sequence[list[Turn]]) -> list[list[Turn]]:
    """Conversations: a chat that goes on where the last request of an earlier one stopped continues that one.

    Args:
        chats: The turns of each row, in the order of the rows.
    """
    conversations: list[list[Turn]] = []
    open_ends: dict[bytes, int] = {}
    for turns in chats:
        ends = _digests(turns)
        place = next((place for place in reversed(range(len(turns) - 1)) if ends[place] in open_ends), None)
        if place is None:
            number = len(conversations)
            conversations.append(list(turns))
        else:
            number = open_ends.pop(ends[place])
            conversations[number][-1].answer = turns[place].answer
            conversations[number] += turns[place + 1 :]
        if turns:
            open_ends[ends[-1]] = number
    return [turns for turns in conversations if turns]


def _digests(turns: Sequence[Turn]) -> list[bytes]:
    """For every turn a digest of its whole prompt."""
    digest, digests = hashlib.sha256(), []
    for turn in turns:
        digest.update(_raw(turn.asks))
        digests.append(digest.digest())
        digest.update(_raw(turn.answer))
    return digests


def _raw(messages: Sequence[Message]) -> bytes:
    plain: list[Any] = [dict(message) for message in messages]
    return json.dumps(plain, sort_keys=True, default=str).encode()
