"""The body of a request, read as vLLM reads it, so that what the front checks is what the engine acts on. Pure.

vLLM decodes JSON with Python's own decoder (UTF-8, 16 or 32; of a repeated key, the last counts) and validates it with
pydantic in lax mode, where "10", 16.0 and true are integers. The front does the same with the same libraries, and
sends the engine its own encoding of the result.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from optimize.serve.responses import Refused


class _Decoding(BaseModel):
    """Fields that determine beams and answers, declared as vLLM declares them for texts and chats."""

    n: int | None = 1
    use_beam_search: bool = False


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A valid request.

    Attributes:
        fields: Its members.
        encoded: Their JSON, in ASCII, so that no encoding has to be guessed.
        width: Beams of beam search that each prompt asks for; 1 where it decodes greedily or by sampling.
        samples: Answers that each prompt asks for without beam search; 1 with it.
        prompts: Number of prompts.
    """

    fields: dict[str, Any]
    encoded: bytes
    width: int
    samples: int
    prompts: int

    def clamped(self, width: int) -> bytes:
        """JSON of the same request with this many beams per prompt."""
        return self.encoded if width == self.width else json.dumps({**self.fields, "n": width}).encode("ascii")


def parse(raw: bytes) -> RequestBody:
    """The body of a request.

    Raises:
        Refused: it is no JSON object, or a field that determines beams and answers has no such value. vLLM answers
            400, too.
    """
    try:
        fields = json.loads(raw)
        if not isinstance(fields, dict):
            raise Refused(400, "the body must be a JSON object")
        return _checked(fields)
    except RecursionError as error:
        raise Refused(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise Refused(400, f"the body is no JSON: {error}") from error


def _checked(fields: dict[str, Any]) -> RequestBody:
    decoding = _validated(fields)
    fields = {**fields, **decoding.model_dump(exclude_unset=True)}
    n = max(1, decoding.n or 1)
    width, samples = (n, 1) if decoding.use_beam_search else (1, n)
    prompts = _prompts(fields.get("prompt")) + _prompts(fields.get("prompt_embeds"))
    return RequestBody(fields, json.dumps(fields).encode("ascii"), width, samples, max(1, prompts))


def _validated(fields: dict[str, Any]) -> _Decoding:
    try:
        return _Decoding.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(first["loc"][0])
        raise Refused(400, f"{name}: {first['msg']}", name) from error


def _prompts(prompt: object) -> int:
    """Number of prompts in a field: a text and a list of token ids are one, a list of such is several."""
    if not isinstance(prompt, Sequence) or not prompt:
        return 0
    several = not isinstance(prompt, str) and any(isinstance(item, str | list) for item in prompt)
    return len(prompt) if several else 1
