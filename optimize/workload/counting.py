"""Tokens of a workload's prompts, as the engine will count them: special tokens and the chat template included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.workload.template import rendered
from optimize.workload.tokens import token_counts
from optimize.workload.workload import Prompt

_OF_TEMPLATE, _OF_MESSAGE = 256, 64
"""Bytes that a template is taken to put before a chat and around a message, until it is known."""
_ESTIMATED = 8
"""Tokens that a template puts around a message, where it cannot be had; ChatML takes 5, Llama 3 takes 5."""


def prompt_tokens(
    prompts: Sequence[Prompt], room: Sequence[int], model: str, cache_folder: Path, template: str | None,
    say: Callable[[str], None],
) -> dict[int, int]:  # fmt: skip
    """Row -> tokens of its prompt, of those rows that may not fit their room; the others need no counting.

    A prompt with parts that are no text (images) is not counted.

    Args:
        prompts: All prompts.
        room: Tokens that each may have.
        model: Model whose tokens are counted.
        cache_folder: Root of the cache.
        template: The flag `chat_template`.
        say: Prints a line, where counting takes long.

    Raises:
        ConfigError: the model has no tokenizer file on this disk.
    """
    rows = [row for row, prompt in enumerate(prompts) if _may_exceed(prompt, room[row])]
    plain = [row for row in rows if isinstance(prompts[row], str)]
    chats = [row for row in rows if not isinstance(prompts[row], str)]
    counts = token_counts([str(prompts[row]) for row in plain], model, cache_folder, say=say) if plain else []
    return dict(zip(plain, counts, strict=True)) | _of_chats(
        {row: _messages(prompts[row]) for row in chats}, model, cache_folder, template, say
    )


def _of_chats(
    chats: Mapping[int, Sequence[Mapping[str, Any]]], model: str, cache_folder: Path, template: str | None,
    say: Callable[[str], None],
) -> dict[int, int]:  # fmt: skip
    if not chats:
        return {}
    texts = rendered(list(chats.values()), model, template)
    added = [0] * len(chats)
    if texts is None:
        texts = ["\n".join(message["content"] or "" for message in chat) for chat in chats.values()]
        added = [_ESTIMATED * len(chat) for chat in chats.values()]
    counts = token_counts(texts, model, cache_folder, special=False, say=say)
    return {row: count + more for row, count, more in zip(chats, counts, added, strict=True)}


def _may_exceed(prompt: Prompt, room: int) -> bool:
    """Whether a prompt may have no token, or more than its room: of ASCII a token has at least one character."""
    if isinstance(prompt, str):
        return not prompt.strip() or not prompt.isascii() or len(prompt) + 2 > room
    contents = [message.get("content") or "" for message in prompt]
    if not all(isinstance(content, str) for content in contents):
        return False
    longest = sum(map(len, contents)) + _OF_TEMPLATE + _OF_MESSAGE * len(prompt)
    return not all(map(str.isascii, contents)) or longest > room


def _messages(prompt: Prompt) -> Sequence[Mapping[str, Any]]:
    assert not isinstance(prompt, str)
    return prompt
