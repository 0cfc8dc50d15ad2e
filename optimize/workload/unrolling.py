"""From rows that are chats to a workload whose rows are turns, which follow each other. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from optimize.config.instantiate import build
from optimize.config.measuring import MODEL, RECORDED, WorkloadSource
from optimize.errors import ConfigError
from optimize.workload.conversation import Conversations
from optimize.workload.example import Example, Message
from optimize.workload.think_times import Fixed, ThinkTimes
from optimize.workload.turns import Turn, joined, questions_of, turns_of

_TIMES = ("timestamp", "created_at", "create_time")
_SETTING = "workload.think_time"


@dataclass(frozen=True)
class Unrolled:
    """Examples that are turns, and how they follow each other.

    Attributes:
        examples: One per turn: what is sent with the recorded history, and the recorded answer (all or none).
        conversations: How they follow each other.
    """

    examples: list[Example]
    conversations: Conversations

    @property
    def in_words(self) -> str:
        """Numbers of conversations and turns."""
        talks = self.conversations.rows
        return f"{len(talks)} conversations, {len(self.examples)} turns, {max(map(len, talks))} in the longest"


def unrolled(chats: Sequence[Example], source: WorkloadSource, seed: int) -> Unrolled:
    """Make every turn an example.

    Args:
        chats: The rows.
        source: History and think times, and whether answers are references.
        seed: Seed of drawn think times.

    Raises:
        ConfigError: no row asks anything, or think times that are none.
    """
    talks = joined([_turns(chat, row) for row, chat in enumerate(chats)])
    turns = [turn for talk in talks for turn in talk]
    if not turns:
        raise ConfigError(f"workload.path={source.where} has no conversation with a question: give at least one")
    examples = [_example(turn, chats[turn.row], source) for turn in turns]
    if any(example.reference is None for example in examples):
        examples = [replace(example, reference=None) for example in examples]
    conversations = Conversations(
        rows=_numbered(talks), asks=[turn.asks for turn in turns], answers=[turn.answer for turn in turns],
        think_s=_pauses_s(source.think_time, talks, seed), live=source.history == MODEL,
    )  # fmt: skip
    return Unrolled(examples, conversations)


def _turns(chat: Example, row: int) -> list[Turn]:
    prompt: list[Message] = [{"role": "user", "content": chat.prompt}] if isinstance(chat.prompt, str) else chat.prompt
    messages = prompt if chat.messages is None else chat.messages
    if len(prompt) < len(messages) and not any(message["role"] == "assistant" for message in messages):
        return questions_of(messages, len(prompt), row)
    return turns_of(messages, row)


def _example(turn: Turn, chat: Example, source: WorkloadSource) -> Example:
    """The turn with its recorded answer, or with the row's own reference where that is to the same prompt."""
    prompt = chat.prompt if isinstance(chat.prompt, str) else [*turn.history, *turn.asks]
    reference = turn.text if turn.answer else chat.reference if prompt == chat.prompt else None
    return replace(chat, prompt=prompt, reference=None if source.reference_column is None else reference, messages=None)


def _numbered(talks: Sequence[Sequence[Turn]]) -> list[list[int]]:
    numbers = iter(range(sum(map(len, talks))))
    return [[next(numbers) for _ in talk] for talk in talks]


def _pauses_s(setting: Any, talks: Sequence[Sequence[Turn]], seed: int) -> list[float | None]:
    """For each turn the seconds from the answer before it; None where the user's pause counts."""
    if setting is None:
        return [None for talk in talks for _ in talk]
    if setting == RECORDED:
        return [pause for talk in talks for pause in _recorded_s(talk)]
    rng, times = random.Random(f"think-{seed}"), _distribution(setting)
    return [times.draw(rng) for talk in talks for _ in talk]


def _distribution(setting: Any) -> ThinkTimes:
    if isinstance(setting, int | float) and not isinstance(setting, bool):
        return Fixed(float(setting))
    if isinstance(setting, str):
        raise ConfigError(f"{_SETTING} must be seconds, a distribution or {RECORDED!r}, got {setting!r}")
    times: ThinkTimes = build(setting, _SETTING)
    return times


def _recorded_s(talk: Sequence[Turn]) -> list[float | None]:
    pauses: list[float | None] = [None]
    for before, turn in zip(talk, talk[1:], strict=False):
        times = _time_of(before.answer[-1:]), _time_of(turn.asks[-1:])
        pauses.append(None if None in times else max(0.0, (times[1] or 0.0) - (times[0] or 0.0)))
    return pauses


def _time_of(messages: Sequence[Message]) -> float | None:
    """When a message was sent, in Unix seconds: a number, or a date and time by ISO 8601."""
    for message in messages:
        for key in _TIMES:
            value = message.get(key)
            if isinstance(value, int | float):
                return float(value)
            if isinstance(value, str):
                try:
                    return datetime.fromisoformat(value).timestamp()
                except ValueError:
                    continue
    return None
