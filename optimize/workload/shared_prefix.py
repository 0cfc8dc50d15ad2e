"""A common beginning of many prompts, as long system prompts and instructions are; the same for every trial."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from optimize.config.measuring import SharedPrefix
from optimize.workload.conversation import Conversations
from optimize.workload.example import Message, Prompt
from optimize.workload.tokens import tokenizer_of
from optimize.workload.workload import Workload

_WORD = re.compile(r"[^\W\d_]+")
_FEWEST_WORDS = 50
_COMMON = (
    "about", "after", "all", "and", "answer", "any", "are", "because", "been", "before", "but", "by", "can", "come",
    "could", "day", "do", "each", "even", "first", "for", "from", "give", "good", "have", "how", "if", "into", "just",
    "know", "like", "look", "make", "many", "most", "new", "not", "now", "only", "other", "over", "people", "say",
    "some", "take", "than", "that", "the", "there", "these", "they", "time", "use", "want", "way", "well", "what",
    "when", "which", "who", "will", "with", "work", "would", "year", "you",
)  # fmt: skip
_FILLERS = (" a", " the", " and", " of", ".", ",")


def with_shared_prefix(workload: Workload, prefix: SharedPrefix, model: str, seed: int) -> Workload:
    """The workload with a common text in front of a share of its prompts: of a chat it is the system prompt.

    All requests of a conversation begin alike: those whose first message is the same have the same text, or none.

    Args:
        workload: The workload.
        prefix: Length, share and number of the texts.
        model: Model whose tokens are counted.
        seed: Seed of the texts and of the choice of prompts.

    Raises:
        ConfigError: the model has no tokenizer on this disk.
    """
    if not prefix.tokens:
        return workload
    texts = _texts(workload.prompts, prefix, model, random.Random(f"shared-prefix-{seed}"))
    rng = random.Random(f"shared-by-{seed}")
    keys = [_opening(prompt) for prompt in workload.prompts]
    beginning = {key: rng.choice(texts) if rng.random() < prefix.share else "" for key in dict.fromkeys(keys)}
    beginnings = [beginning[key] for key in keys]
    prompts = [after(text, prompt) for text, prompt in zip(beginnings, workload.prompts, strict=True)]
    note = (
        f"workload {workload.name}: {sum(map(bool, beginnings))} of {len(prompts)} prompts begin with "
        f"{'a text' if len(texts) == 1 else f'one of {len(texts)} texts'} of {prefix.tokens} tokens "
        "(workload.shared_prefix)"
    )
    talks = workload.conversations and _talks_after(workload.conversations, beginnings)
    return replace(workload, prompts=prompts, conversations=talks, notes=[*workload.notes, note])


def _talks_after(talks: Conversations, beginnings: Sequence[str]) -> Conversations:
    asks = list(talks.asks)
    for row in (turns[0] for turns in talks.rows):
        asks[row] = _chat_after(beginnings[row], asks[row])
    return replace(talks, asks=asks)


def _opening(prompt: Prompt) -> str:
    """What a prompt begins with, system prompts aside."""
    first = prompt if isinstance(prompt, str) else next((m for m in prompt if m["role"] != "system"), prompt[:1])
    return json.dumps(first, sort_keys=True, default=str)


def after(text: str, prompt: Prompt) -> Prompt:
    """A prompt after a text."""
    if isinstance(prompt, str):
        return f"{text}\n\n{prompt}" if text else prompt
    return _chat_after(text, prompt)


def _chat_after(text: str, chat: list[Message]) -> list[Message]:
    if not text:
        return chat
    if chat and chat[0]["role"] == "system" and isinstance(chat[0]["content"], str):
        return [{**chat[0], "content": f"{text}\n\n{chat[0]['content']}"}, *chat[1:]]
    return [{"role": "system", "content": text}, *chat]


def _texts(prompts: Sequence[Prompt], prefix: SharedPrefix, model: str, rng: random.Random) -> list[str]:
    tokenizer = tokenizer_of(model, "workload.shared_prefix needs it: set its tokens to 0, or give a local model")

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    words = _words(prompts)
    return [text_of_length(words, prefix.tokens, count, rng) for _ in range(prefix.groups)]


def _words(prompts: Sequence[Prompt]) -> list[str]:
    """Words that the prompts consist of, so that the text is in their language; common ones where they have few."""
    texts = (str(message.get("content", "")) for prompt in prompts[:200] for message in _messages(prompt))
    words = sorted({word.lower() for text in texts for word in _WORD.findall(text)})
    return words if len(words) >= _FEWEST_WORDS else sorted({*words, *_COMMON})


def _messages(prompt: Prompt) -> list[Message]:
    only: list[dict[str, Any]] = [{"content": prompt}] if isinstance(prompt, str) else prompt
    return only


def text_of_length(words: Sequence[str], tokens: int, count: Callable[[str], int], rng: random.Random) -> str:
    """Words in random order that are so many tokens together: exactly, unless no filler is a token of its own.

    Args:
        words: The words to draw from.
        tokens: The length.
        count: Tokens of a text.
        rng: Draws the words.
    """
    drawn = [rng.choice(words) for _ in range(tokens)]  # a word is one token at least
    fewest, most = 0, len(drawn)
    while fewest < most:  # the longest beginning that is not too long
        middle = (fewest + most + 1) // 2
        fewest, most = (middle, most) if count(" ".join(drawn[:middle])) <= tokens else (fewest, middle - 1)
    text = " ".join(drawn[:fewest])
    while (missing := tokens - count(text)) > 0:
        filler = next((f for f in _FILLERS if count(text + f) == count(text) + 1), None)
        if filler is None:
            return text
        text += filler * max(1, missing // 2)
        while count(text) > tokens:
            text = text[: -len(filler)]
    return text
