"""Conversations that an engine has room for: whose first turn fits, and what ends them before a later one does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from optimize.workload.context import Context
from optimize.workload.conversation import Conversations
from optimize.workload.example import Message
from optimize.workload.room import Verdict
from optimize.workload.tokens import token_counts

_OF_MESSAGE = 8
"""Tokens that a template is taken to put around a message; ChatML takes 5, Llama 3 takes 5."""
Counts = Callable[[Sequence[str]], list[int]]


def whole(verdict: Verdict, talks: Conversations) -> Verdict:
    """The verdict on first turns, with all later turns of the conversations that it leaves out."""
    out = [row for turns in talks.rows if turns[0] in verdict.left_out for row in turns]
    return replace(verdict, left_out=frozenset(out))


def with_room(talks: Conversations, context: Context, model: str, cache_folder: Path) -> Conversations:
    """The conversations with what they need to end before they exceed the context.

    Raises:
        ConfigError: the model has no tokenizer file on this disk.
    """

    def tokens_of(chats: Sequence[Sequence[Message]]) -> list[int]:
        counts = token_counts(["\n".join(map(_text, chat)) for chat in chats], model, cache_folder, special=False)
        return [count + _OF_MESSAGE * len(chat) for count, chat in zip(counts, chats, strict=True)]

    tokens = tokens_of(talks.asks)
    if not talks.live:
        tokens = _so_far(talks, tokens, tokens_of(talks.answers))
    return replace(talks, tokens=tokens, context=context.tokens)


def _text(message: Message) -> str:
    """What of a message can be counted: the length of parts that are no text is the model's secret."""
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _so_far(talks: Conversations, asks: Sequence[int], answers: Sequence[int]) -> list[int]:
    """Per row the tokens of its whole recorded prompt."""
    prompts = [0] * len(asks)
    for turns in talks.rows:
        total = 0
        for row in turns:
            prompts[row] = total + asks[row]
            total = prompts[row] + answers[row]
    return prompts
