"""One answer of an OpenAI-compatible server, put together from its documents: text, arrival of tokens, counts. Pure.

What servers differ in: where the usage stands (a chunk of its own, beside the choices, in every chunk, nowhere), what a
model's thinking is called, and how an error within a stream is written (docs/workloads.md names the dialects).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_THINKING = ("reasoning_content", "reasoning", "thinking")
_ACTIONS = ("tool_calls", "function_call", "refusal")
_FAILED = ("abort", "error")
_MOST_CHARACTERS = 500


@dataclass(slots=True)
class Answer:
    """An answer as far as it has arrived; times are those that its documents are taken with.

    Attributes:
        first_token_s: Arrival of its first token of any kind.
        first_answer_s: Arrival of the first token after the thinking: of text, or of a tool call.
        done_s: When it was complete; None until then.
        prompt_tokens: As counted by the server; None where it does not count.
        output_tokens: The same, thinking included; for several choices, the mean over them.
        cached_tokens: Tokens of the prompt that the server found in its cache; None where it does not say.
        finished: Whether the server has said why it ends.
        error: The class of its failure; see `RequestRecord`.
        reason: What is known of the failure.
        retry_s: Seconds after which the server wants to be asked again, where it throttles.
    """

    first_token_s: float | None = None
    first_answer_s: float | None = None
    done_s: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    finished: bool = False
    error: str | None = None
    reason: str = ""
    retry_s: float | None = None
    _pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The answer without its thinking; of a failure, what is known of it."""
        return self.reason if self.error is not None else "".join(self._pieces)

    def fail(self, error: str, reason: str) -> None:
        self.error, self.reason = error, reason[:_MOST_CHARACTERS]

    def take(self, chunk: Mapping[str, Any], at_s: float) -> None:
        """Take a chunk of a stream.

        Raises:
            AttributeError, TypeError, ValueError: it has another shape than any server's.
        """
        if chunk.get("error") or chunk.get("object") == "error":
            return self._fail_by(chunk)
        if usage := chunk.get("usage"):
            self._count(usage)
        for choice in chunk.get("choices") or ():
            if not choice.get("index"):  # further choices say nothing of how fast the first one came
                self._extend(choice, at_s)

    def take_whole(self, document: Mapping[str, Any]) -> None:
        """Take an answer that came in one piece: when its first token was ready is not known.

        Raises:
            AttributeError, KeyError, IndexError, TypeError, ValueError: it is no answer.
        """
        if document.get("error") or document.get("object") == "error":
            return self._fail_by(document)
        choices = document["choices"]
        self._pieces.append(_parts(choices[0])[0])
        self.finished = True
        self._count(document.get("usage") or {})
        # The usage is the sum over all choices; the user gets one answer.
        self.output_tokens = None if self.output_tokens is None else round(self.output_tokens / len(choices))

    def end(self, at_s: float, marked: bool) -> None:
        """Nothing more comes; the answer is whole if the server has said so, by a reason or by the stream's end mark.

        Args:
            at_s: When its last part came.
            marked: Whether that was the end mark.
        """
        self.done_s, came = at_s, self.first_token_s is not None or any(self._pieces)
        if self.error is None and not (self.finished or (marked and came)):
            self.fail("malformed", "the answer broke off" if came else "there was no answer in it")
        if came and not self.output_tokens:
            self.output_tokens = None  # a count of none, although tokens came, is no count

    def _fail_by(self, document: Mapping[str, Any]) -> None:
        self.fail("aborted", _message(document.get("error") or document))

    def _extend(self, choice: Mapping[str, Any], at_s: float) -> None:
        text, thinks, acts = _parts(choice)
        if self.first_token_s is None and (text or thinks or acts):
            self.first_token_s = at_s
        if self.first_answer_s is None and (text or acts):
            self.first_answer_s = at_s
        if text:
            self._pieces.append(text)
        if reason := choice.get("finish_reason"):
            self.finished = True
            if reason in _FAILED:
                self.fail("aborted", f"finish_reason {reason}")

    def _count(self, usage: Mapping[str, Any]) -> None:
        self.prompt_tokens = _number(usage.get("prompt_tokens"), self.prompt_tokens)
        self.output_tokens = _number(usage.get("completion_tokens"), self.output_tokens)
        details = usage.get("prompt_tokens_details") or {}
        self.cached_tokens = _number(details.get("cached_tokens"), self.cached_tokens)


def _parts(choice: Mapping[str, Any]) -> tuple[str, bool, bool]:
    """(text, whether there is thinking, whether there is a tool call or the like) of a choice."""
    message = choice.get("delta") or choice.get("message")
    if not message:
        return choice.get("text") or "", False, False
    content = message.get("content") or ""
    acts = thinks = False
    if not content or len(message) > 1:  # something else than content alone
        thinks, acts = (any(message.get(name) for name in names) for names in (_THINKING, _ACTIONS))
    if not isinstance(content, str):
        return _joined(content), thinks or any(part.get("type") in _THINKING for part in content), acts
    return content, thinks, acts


def _joined(parts: list[dict[str, Any]]) -> str:
    return "".join(part.get("text") or "" for part in parts if part.get("type") == "text")


def _number(count: Any, before: int | None) -> int | None:
    return before if count is None else int(count)


def _message(error: Any) -> str:
    """What an error says, whichever way it is written."""
    text = error.get("message") if isinstance(error, Mapping) else error
    return text if isinstance(text, str) else json.dumps(error)
