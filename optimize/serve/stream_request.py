"""Which streamed requests a second engine can go on with once their first one has died, and what it is asked. Pure.

The second engine is asked to complete token ids: those of the prompt and those of the answer so far, as vLLM reports
them (`return_token_ids`). Tokens need no chat template and are not cut anew, as a text would be.

A request qualifies only where that changes nothing but the random numbers. Every field is therefore one that
/v1/completions takes in the same sense, one that has done its work once the prompt is made of tokens, or off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
_COMPLETIONS_MAX_TOKENS = 16  # vLLM's and OpenAI's default for completions
_GREEDY = 1e-5  # vLLM decodes greedily below this temperature

_SAME = frozenset(
    {
        "model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed",
        "stop", "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "skip_special_tokens",
        "spaces_between_special_tokens", "logit_bias", "allowed_token_ids", "user", "priority", "cache_salt",
        "request_id", "session_id", "stream_interval",
    }
)  # fmt: skip
"""Fields that the continuation has, too. Repetition is penalized in prompt and answer alike; presence and frequency
are counted in the answer alone, which would forget its first half: their penalties must be off.
"""
_OF_THE_PROMPT = frozenset(
    {
        "prompt", "messages", "add_special_tokens", "truncate_prompt_tokens", "truncation_side",
        "add_generation_prompt", "continue_final_message", "chat_template", "chat_template_kwargs", "documents",
        "reasoning_effort",
    }
)  # fmt: skip
_LIMITS = ("max_tokens", "max_completion_tokens", "min_tokens")
_OFF: Mapping[str, Sequence[object]] = {
    "n": (1,), "top_logprobs": (0,), "presence_penalty": (0,), "frequency_penalty": (0,), "length_penalty": (1,),
    "tool_choice": ("none", "auto"), "parallel_tool_calls": (True,), "include_reasoning": (True,),
    "response_format": ({"type": "text"},),
}  # fmt: skip
"""Name of a field -> values with which it does nothing, beside null, false and what is empty."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A streamed request for one answer that a second engine can go on with.

    Attributes:
        fields: Its members.
        chat: Whether it is a chat's.
    """

    fields: Mapping[str, Any]
    chat: bool

    @property
    def encoded(self) -> bytes:
        """JSON of the request, with the tokens of its prompt and its answer asked for."""
        return json.dumps({**self.fields, "return_token_ids": True}).encode("ascii")

    @property
    def greedy(self) -> bool:
        """Whether a second engine gives the same answer, but for rounding."""
        temperature = self.fields.get("temperature")
        return isinstance(temperature, int | float) and 0 <= temperature < _GREEDY

    @property
    def stop_overlap(self) -> int:
        """Characters of an answer's end that may begin a stop string."""
        return max((len(stop) for stop in _texts(self.fields.get("stop")) or []), default=1) - 1

    @property
    def held_back(self) -> int:
        """Characters of an answer's end that vLLM holds back, because a stop string may begin there."""
        return 0 if self.fields.get("include_stop_str_in_output") else self.stop_overlap

    @property
    def counts_tokens(self) -> bool:
        """Whether the answer ends with a count of tokens."""
        return bool((self.fields.get("stream_options") or {}).get("include_usage"))

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer; None where only the model's length limits it."""
        names = ("max_completion_tokens", "max_tokens") if self.chat else ("max_tokens",)
        limits = [self.fields[name] for name in names if self.fields.get(name) is not None]
        default = None if self.chat else _COMPLETIONS_MAX_TOKENS
        return int(limits[0]) if limits else default

    def continuation(self, prompt: Sequence[int], answer: Sequence[int], length_max: int | None) -> bytes | None:
        """JSON of the request to /v1/completions that goes on after these tokens.

        Args:
            prompt: Tokens of the prompt.
            answer: Tokens of the answer so far.
            length_max: Most tokens of prompt and answer together that the model takes; None where unknown.

        Returns:
            The body; None where nobody knows how long the answer may become.
        """
        limits = [limit for limit in (self.limit, length_max and length_max - len(prompt)) if limit is not None]
        if not limits:
            return None
        body = {name: value for name, value in self.fields.items() if name in _SAME}
        body |= {"prompt": [*prompt, *answer], "max_tokens": min(limits) - len(answer), "return_token_ids": True}
        if self.fields.get("min_tokens"):
            body["min_tokens"] = max(0, int(self.fields["min_tokens"]) - len(answer))
        return json.dumps(body).encode("ascii")


def stream_request(path: str, fields: Mapping[str, Any]) -> StreamRequest | None:
    """The request with these members; None where a second engine cannot go on with it."""
    prompt_is_text = {COMPLETIONS: _one_prompt, CHAT: _texts_only}.get(path)
    qualifies = (
        prompt_is_text is not None
        and prompt_is_text(fields)
        and fields.get("stream") is True
        and isinstance(fields.get("stream_options") or {}, Mapping)
        and _texts(fields.get("stop")) is not None
        and all(_is_count(fields.get(name)) for name in _LIMITS)
        and all(_has_no_effect(name, value) for name, value in fields.items())
    )
    return StreamRequest(fields, path == CHAT) if qualifies else None


def _has_no_effect(name: str, value: object) -> bool:
    """Whether a field is among those that are carried over, or off."""
    if name in _SAME or name in _OF_THE_PROMPT or name in _LIMITS:
        return True
    return value is None or value is False or value in ("", [], {}) or value in _OFF.get(name, ())


def _one_prompt(fields: Mapping[str, Any]) -> bool:
    prompt = fields.get("prompt")
    return isinstance(prompt, str) or (isinstance(prompt, list) and all(type(token) is int for token in prompt))


def _texts_only(fields: Mapping[str, Any]) -> bool:
    """Whether the messages are text: of an image, the tokens are no more than a place."""
    messages = fields.get("messages")
    return isinstance(messages, list) and all(isinstance(m, dict) and _is_text(m.get("content")) for m in messages)


def _is_text(content: object) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
    return content is None or isinstance(content, str)


def _texts(stop: object) -> list[str] | None:
    """The stop strings of a request; None where they are none."""
    stops = [stop] if isinstance(stop, str) else stop or []
    return stops if isinstance(stops, list) and all(isinstance(text, str) for text in stops) else None


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and value >= 0)
