"""The stream that a client gets, whichever engines it comes from. Pure.

All events pass through here. What the client did not ask for is taken out, and those of a second engine get the form,
the id and the counts of the first one's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optimize.serve.progress import Progress, TokenRoom
from optimize.serve.stream_request import StreamRequest

_DATA, _END, _DONE = b"data: ", b"\n\n", b"[DONE]"
_HEAD = ("id", "object", "created", "model")
_TOKENS = ("prompt_token_ids", "token_ids")


class Transcript:
    """The stream of one request; `close` frees the tokens that it holds.

    Args:
        request: The request.
        room: Room for its tokens; where there is none, no second engine can go on.

    Attributes:
        ended: Whether the stream's own end has been passed on.
        error: The events from the first error on, or from the engine's own abort, which have not been passed on.
        rest: The beginning of an event that is not complete.
    """

    def __init__(self, request: StreamRequest, room: TokenRoom) -> None:
        self._request = request
        self._progress = Progress(room, request.held_back, request.stop_overlap, request.greedy)
        self._head: dict[str, Any] = {}
        self._finished = self._counted = self._resumed = self.ended = False
        self.error, self.rest, self._watchful = b"", b"", True

    # -- events

    def take(self, data: bytes) -> bytes:
        """The client's bytes for some of an engine's, up to the first error.

        Raises:
            Contradiction: a second engine does not repeat what the client has.
        """
        *events, self.rest = (self.rest + data).split(_END)
        return b"".join(self._passed(event) for event in events)

    def _passed(self, event: bytes) -> bytes:
        content = event.removeprefix(_DATA)
        chunk = _document(content) if content != event else None
        if self.error or (self._watchful and _is_failure(chunk)):
            self.error += event + _END
            return b""
        self.ended = self.ended or content == _DONE
        if chunk is None or "error" in chunk:
            return event + _END
        self._head = self._head or {name: chunk[name] for name in _HEAD if name in chunk}
        return _event({**chunk, **self._head}) if self._note(chunk) else b""

    def _note(self, chunk: dict[str, Any]) -> bool:
        """Note what an event says, and make it the client's; False where it says nothing to the client."""
        choice = next(iter(chunk.get("choices") or []), None)
        if choice is None:
            self._counted = self._counted or bool(chunk.get("usage"))
        elif self._resumed and self._request.chat:
            choice = _as_chat(choice)
            chunk["choices"] = [choice]
        self._progress.begin(chunk.get("prompt_token_ids") or (choice or {}).get("prompt_token_ids") or ())
        visible = choice is None or self._note_choice(choice)
        if self._resumed:
            self._recount(chunk)
        for part in (chunk, choice or {}):
            part.update({name: None for name in _TOKENS if name in part})
        return visible

    def _note_choice(self, choice: dict[str, Any]) -> bool:
        tokens = choice.get("token_ids") or ()
        holder, name = (choice["delta"], "content") if "delta" in choice else (choice, "text")
        text = holder.get(name)
        if text is None or (text and not tokens):  # a parser is at work, whose state no second engine has
            self._progress.close()
        finished = choice.get("finish_reason") is not None
        addition = self._progress.add(tokens, text or "", finished)
        if text is not None:
            holder[name] = addition
        self._finished = self._finished or finished
        return finished or bool(addition if self._resumed else holder)

    def _recount(self, chunk: dict[str, Any]) -> None:
        """Count the whole answer in a second engine's event, not only what this engine has added."""
        chunk.pop("metrics", None)
        if chunk.get("usage"):
            chunk["usage"] = self._usage()

    def _usage(self) -> dict[str, int]:
        prompt, answer = self._progress.prompt_count, self._progress.count
        return {"prompt_tokens": prompt, "total_tokens": prompt + answer, "completion_tokens": answer}

    # -- the death of an engine

    @property
    def resumable(self) -> bool:
        """Whether another engine can go on."""
        possible = self._request.greedy or self._progress.overlap == 0 or bool(self.doubtful)
        return bool(self._progress.prompt) and not self._finished and possible

    @property
    def doubtful(self) -> Sequence[int]:
        """The answer's last tokens, where they may end within a character; `settle` is to say before `resume`."""
        return self._progress.doubtful

    def settle(self, incomplete: int | None) -> None:
        """Take in how many of the `doubtful` tokens belong to a character that is not complete; None for unknown."""
        self._progress.settle(incomplete)

    def resume(self, length_max: int | None) -> bytes | None:
        """The request to /v1/completions by which another engine goes on; None where it cannot be made.

        Args:
            length_max: Most tokens of prompt and answer together that the model takes; None where unknown.
        """
        self._progress.restart()
        self._resumed, self.error, self.rest = True, b"", b""
        return self._request.continuation(self._progress.prompt, self._progress.tokens, length_max)

    def ending(self) -> bytes | None:
        """What a complete answer still lacks when its engine dies; None where the answer is not complete."""
        if self.ended:
            return b""
        if not self._finished:
            return None
        uncounted = self._request.counts_tokens and not self._counted
        usage = _event({**self._head, "choices": [], "usage": self._usage()}) if uncounted else b""
        return usage + _DATA + _DONE + _END

    def error_passed(self) -> bytes:
        """The events from the first error on, for the client: its engine lives, so no other one goes on."""
        events, self.error = self.error.split(_END)[:-1], b""
        if events:
            self._watchful = False
            self._progress.close()
        return b"".join(self._passed(event) for event in events)

    def close(self) -> None:
        """Free the tokens; no other engine can go on."""
        self._progress.close()


def _document(content: bytes) -> dict[str, Any] | None:
    """The JSON object of an event; None where it has none, as the stream's end has none."""
    try:
        chunk = json.loads(content)
    except ValueError:
        return None
    return chunk if isinstance(chunk, dict) else None


def _is_failure(chunk: Mapping[str, Any] | None) -> bool:
    """Whether an engine says that it cannot complete the answer; one that gets SIGTERM finishes it by `abort`."""
    choices = (chunk or {}).get("choices") or ()
    return chunk is not None and ("error" in chunk or any(c.get("finish_reason") == "abort" for c in choices))


def _as_chat(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A piece of a completion as one of a chat."""
    finish = {name: choice[name] for name in ("finish_reason", "stop_reason") if choice.get(name) is not None}
    chat = {"index": 0, "delta": {"content": choice["text"]}, "logprobs": None, "finish_reason": None, **finish}
    return {**chat, **{name: choice[name] for name in ("token_ids",) if name in choice}}


def _event(chunk: Mapping[str, Any]) -> bytes:
    return _DATA + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + _END
