"""Conversations: which rows of a workload are the turns of one, and one that is under way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from objectives import RequestRecord
from optimize.workload.example import Message, Prompt


@dataclass(frozen=True, slots=True)
class Conversations:
    """How the rows of a workload, each the request of one turn, follow each other.

    Attributes:
        rows: For each conversation the rows of its turns, in order.
        asks: Per row, the messages that are new in its turn.
        answers: Per row, the recorded answer, which may take several messages; empty where none is recorded.
        think_s: Per row, seconds from the answer before it until it is due; None where the user's pause counts.
        live: Whether the history holds the model's own answers, or the recorded ones.
        plain: Whether messages are written as plain text, for a model without a chat template.
        tokens: Per row, tokens of its new messages, or of its whole prompt where the history is recorded; empty where
            they are not known.
        context: Tokens of a prompt with its answer that the model takes; None where that is not known.
    """

    rows: Sequence[Sequence[int]]
    asks: Sequence[list[Message]]
    answers: Sequence[list[Message]]
    think_s: Sequence[float | None]
    live: bool = True
    plain: bool = False
    tokens: Sequence[int] = ()
    context: int | None = None

    @property
    def mean_turns(self) -> float:
        return sum(map(len, self.rows)) / len(self.rows)

    def mean_pause_s(self, users_s: float) -> float:
        """Mean seconds from an answer until the next turn is due.

        Args:
            users_s: The user's own pause.
        """
        pauses = [self.think_s[row] for turns in self.rows for row in turns[1:]]
        return sum(users_s if pause is None else pause for pause in pauses) / len(pauses) if pauses else users_s

    @property
    def fixed_rows(self) -> list[int]:
        """Rows whose prompt is the same in every load: the first turns alone, where the history is the model's own."""
        return [row for turns in self.rows for row in (turns[:1] if self.live else turns)]

    def only(self, rows: Sequence[int]) -> Conversations:
        """The conversations with these rows alone, renumbered in their order; a conversation without any is left out.

        Args:
            rows: Rows to keep; a turn is kept only with all turns before it.
        """
        number = {row: new for new, row in enumerate(rows)}
        turns = [[number[row] for row in conversation if row in number] for conversation in self.rows]

        def selection(values: Sequence[Any]) -> list[Any]:
            return [values[row] for row in rows] if values else []

        columns: dict[str, Any] = {n: selection(getattr(self, n)) for n in ("asks", "answers", "think_s", "tokens")}
        return replace(self, rows=[turn for turn in turns if turn], **columns)


class Single:
    """One request that belongs to no conversation.

    Args:
        row: Row of the workload.
        prompt: Its prompt.
    """

    ended, turn = True, 1

    def __init__(self, row: int, prompt: Prompt) -> None:
        self.row, self.prompt = row, prompt

    def take(self, record: RequestRecord) -> RequestRecord:
        """The record of its answer."""
        return record

    def pause_s(self, users_s: float) -> float:
        raise AssertionError("there is no next turn")


class Dialogue:
    """One conversation under way.

    Args:
        conversations: All of them.
        number: Which one it is.
        opening: The prompt of its first turn.
        bound: Row -> most tokens of its answer.

    Attributes:
        turn: The turn that is to be sent, from 1.
        row: Its row.
        prompt: Its prompt.
        ended: Whether there is no turn to send any more.
    """

    def __init__(self, conversations: Conversations, number: int, opening: Prompt, bound: Callable[[int], int]) -> None:
        self._all, self._rows, self._bound = conversations, conversations.rows[number], bound
        self.turn, self.row, self.prompt, self.ended = 1, conversations.rows[number][0], opening, False
        self._history: list[Message] = [*conversations.asks[self.row]]

    def take(self, record: RequestRecord) -> RequestRecord:
        """Take in the answer to the turn that was sent, and go on to the next.

        Returns:
            The record of the answer with its place in the conversation.
        """
        turn, rest = self.turn, len(self._rows) - self.turn
        self.ended = rest == 0 or record.error is not None or self._exceeds_context(record)
        if not self.ended:
            self._go_on(record.text)
        return replace(record, turn=turn, last=self.ended, dropped=rest if self.ended else 0)

    def pause_s(self, users_s: float) -> float:
        """Seconds from the last answer until the next turn is due.

        Args:
            users_s: The user's own pause, for a turn without one.
        """
        pause_s = self._all.think_s[self.row]
        return users_s if pause_s is None else pause_s

    def _go_on(self, text: str) -> None:
        self._history += self._answer(text)
        self.row = self._rows[self.turn]
        self.turn += 1
        self._history += self._all.asks[self.row]
        self.prompt = text_of(self._history) if self._all.plain else [*self._history]

    def _answer(self, text: str) -> list[Message]:
        """The answer as the history holds it; calls of tools stay as recorded, for the tools' answers refer to them."""
        recorded = self._all.answers[self.row]
        calls = any(message.get("tool_calls") for message in recorded)
        return [{"role": "assistant", "content": text}] if self._all.live and not calls else recorded

    def _exceeds_context(self, record: RequestRecord) -> bool:
        """Whether the next turn would be too long, by the server's own count of what was said so far."""
        context, following = self._all.context, self._rows[self.turn]
        if context is None or not self._all.tokens or not record.prompt_tokens:
            return False
        so_far = record.prompt_tokens + (record.output_tokens or 0) if self._all.live else 0
        return so_far + self._all.tokens[following] + self._bound(following) > context


Exchange = Single | Dialogue


def text_of(prompt: Prompt) -> str:
    """A prompt as plain text: messages below each other, each after its role, and the assistant's turn left open."""
    if isinstance(prompt, str):
        return prompt
    turns = [f"{message['role'].capitalize()}: {message['content']}" for message in prompt]
    return "\n\n".join([*turns, "Assistant:"])
