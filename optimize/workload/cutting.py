"""Prompts cut from their left, so that what was said last stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optimize.workload.tokens import tokenizer_of
from optimize.workload.workload import Prompt

_REMEDY = "workload.too_long=cut needs it: choose leave_out or cut_answers"
_MARGIN = 2  # a text that is cut within a word may have a token more


def cut_from_left(prompt: Prompt, excess: int, model: str) -> Prompt:
    """A prompt with that many tokens less at least, where it has as many.

    A chat loses its oldest messages, but for those of the system and the last one, which is then cut from its left.

    Raises:
        ConfigError: the model has no tokenizer file on this disk.
    """
    tokenizer = tokenizer_of(model, _REMEDY)

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    def shorter(text: str, tokens: int) -> str:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return str(tokenizer.decode(ids[min(tokens + _MARGIN, len(ids) - 1) :], skip_special_tokens=False)).lstrip()

    return shorter(prompt, excess) if isinstance(prompt, str) else _cut_chat(prompt, excess, count, shorter)


def _cut_chat(
    chat: list[dict[str, Any]], excess: int, count: Callable[[str], int], shorter: Callable[[str, int], str]
) -> list[dict[str, Any]]:
    shorter_chat = list(chat)
    while excess > 0 and (oldest := _oldest(shorter_chat)) is not None:
        excess -= count(shorter_chat.pop(oldest)["content"] or "")
    if excess <= 0:
        return shorter_chat
    last = shorter_chat[-1]
    return [*shorter_chat[:-1], {**last, "content": shorter(last["content"], excess)}]


def _oldest(chat: list[dict[str, Any]]) -> int | None:
    """The first message that may go: neither the system's nor the last."""
    return next(
        (at for at, message in enumerate(chat[:-1]) if message.get("role") not in ("system", "developer")), None
    )
