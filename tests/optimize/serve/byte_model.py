"""A language model whose tokens are the bytes of UTF-8, streamed as vLLM does it. It always gives the same answer.

Texts are held back as vLLM's detokenizer holds them back (`vllm/v1/engine/detokenizer.py`): a character until its last
byte is there, and as many characters as a stop string may begin in. From a prompt that ends within a character it
repeats the whole prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARK, END_TOKEN, LENGTH_MAX = ord(">"), 256, 500
"""A prompt ends in this mark; the answer in this token."""
Fields = Mapping[str, Any]


def events(fields: Fields, answer: str = "", at_a_time: int = 1, request_id: str = "1") -> list[bytes]:
    """The events of a stream.

    Args:
        fields: Members of the request, a chat's if it has messages.
        answer: The model's answer.
        at_a_time: Tokens of each event.
        request_id: Number of the request.
    """
    stream = _Stream(fields, at_a_time, request_id)
    return [b"data: " + content + b"\n\n" for content in stream.contents(answer)]


def prompt_of(fields: Fields) -> list[int]:
    if "messages" in fields:
        return [*"".join(message["content"] for message in fields["messages"]).encode(), MARK]
    return list(fields["prompt"].encode() if isinstance(fields["prompt"], str) else fields["prompt"])


def incomplete(tokens: Sequence[int]) -> int:
    """How many of the last tokens belong to a character that is not complete."""
    return next(count for count in range(4) if _decoded(tokens[: len(tokens) - count]) is not None)


def _continuation(prompt: Sequence[int], answer: bytes) -> bytes:
    """What of the answer comes after a prompt that holds the beginning of it."""
    begun = bytes(prompt[prompt.index(MARK) + 1 :])
    assert answer.startswith(begun), (begun, answer)
    return answer[len(begun) :]


@dataclass
class _Stream:
    """One stream; attributes as the arguments of `events`."""

    fields: Fields
    at_a_time: int
    request_id: str

    def contents(self, answer: str) -> Iterator[bytes]:
        prompt = prompt_of(self.fields)
        chat = "messages" in self.fields
        limit = self.fields.get("max_completion_tokens") or self.fields.get("max_tokens")
        limit = limit or (LENGTH_MAX - len(prompt) if chat else 16)
        assert len(prompt) + limit <= LENGTH_MAX, "longer than the model"
        tokens = [*_continuation(prompt, answer.encode()), END_TOKEN][:limit]
        if chat:
            role = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            yield self._chunk(role, 0, self._asked(prompt))
        whole, count, shown = _decoded(prompt) or "", 0, ""
        start = len(whole)
        for at in range(0, len(tokens), self.at_a_time):
            piece = tokens[at : at + self.at_a_time]
            for _ in piece:
                count += 1
                whole = _decoded([*prompt, *tokens[:count]]) or whole
                text, stop = _stopped(whole[start:], self.fields)
                if stop is not None:
                    break
            piece = piece[: count - at]
            finish = "stop" if stop is not None or END_TOKEN in piece else "length" if count == limit else None
            held = 0 if finish else _held_back(self.fields)
            visible = text[: max(0, len(text) - held)]
            delta, shown = visible[len(shown) :], visible
            yield self._choice(delta, piece, prompt if at == 0 else None, count, finish)
            if finish:
                break
        if self._options.get("include_usage"):
            yield self._encoded({"choices": [], "usage": _usage(len(prompt), count)})
        yield b"[DONE]"

    @property
    def _options(self) -> Mapping[str, Any]:
        return self.fields.get("stream_options") or {}

    def _asked(self, tokens: Sequence[int] | None) -> list[int] | None:
        return list(tokens) if tokens is not None and self.fields.get("return_token_ids") else None

    def _choice(
        self, text: str, tokens: Sequence[int], prompt: Sequence[int] | None, count: int, finish: str | None
    ) -> bytes:  # fmt: skip
        if "messages" in self.fields:
            choice = {"delta": {"content": text}, "finish_reason": finish, "token_ids": self._asked(tokens)}
            return self._chunk(choice, count)
        ids = {"prompt_token_ids": self._asked(prompt), "token_ids": self._asked(tokens)}
        return self._chunk({"text": text, "finish_reason": finish, "stop_reason": None, **ids}, count)

    def _chunk(self, choice: Mapping[str, Any], count: int, prompt: Sequence[int] | None = None) -> bytes:
        content: dict[str, Any] = {"choices": [{"index": 0, "logprobs": None, **choice}]}
        if "role" in choice.get("delta", ()):
            content["prompt_token_ids"] = prompt
        if self._options.get("continuous_usage_stats"):
            content["usage"] = _usage(len(prompt_of(self.fields)), count)
        return self._encoded(content)

    def _encoded(self, content: Mapping[str, Any]) -> bytes:
        kind, prefix = (
            ("chat.completion.chunk", "chatcmpl") if "messages" in self.fields else ("text_completion", "cmpl")
        )
        head = {"id": f"{prefix}-{self.request_id}", "object": kind, "created": int(self.request_id), "model": "model"}
        return json.dumps({**head, **content}, ensure_ascii=False, separators=(",", ":")).encode()


def _usage(prompt: int, answer: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + answer, "completion_tokens": answer}


def _decoded(tokens: Sequence[int]) -> str | None:
    """The text of tokens; None where they end within a character."""
    text = bytes(token for token in tokens if token != END_TOKEN).decode(errors="replace")
    return None if text.endswith("\ufffd") else text


def _stops(fields: Fields) -> list[str]:
    stop = fields.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)


def _held_back(fields: Fields) -> int:
    longest = max((len(stop) for stop in _stops(fields)), default=1)
    return 0 if fields.get("include_stop_str_in_output") else longest - 1


def _stopped(text: str, fields: Fields) -> tuple[str, str | None]:
    """(Text, stop string that ends it)."""
    ends = {text.find(stop) + len(stop): stop for stop in _stops(fields) if stop in text}
    if not ends:
        return text, None
    end = min(ends)
    return text[:end] if fields.get("include_stop_str_in_output") else text[: end - len(ends[end])], ends[end]
