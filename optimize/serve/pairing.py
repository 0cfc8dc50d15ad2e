"""What two answers to the same request say about the engine that is a candidate. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimize.canary.pair import Pair, agreement
from optimize.serve.answer_text import texts_of
from optimize.serve.recording import Recording

_GREEDY = 1e-5  # vLLM decodes greedily below this temperature


def pair_of(fields: Mapping[str, Any], primary: Recording, candidate: Recording, at_s: float = 0.0) -> Pair | None:
    """The pair of two answers; None where the serving engine's own is an error, which says nothing.

    Args:
        fields: Members of the request.
        primary: The answer of the engine that serves.
        candidate: That of the candidate.
        at_s: When both were there, in seconds.
    """
    texts = _texts(primary)
    if not primary.ok or texts is None:
        return None
    others = _texts(candidate)
    if not candidate.ok or others is None:
        return Pair(at_s, primary.whole_s or 0.0, failed=True)
    same = agreement(texts, others) if primary.fits and candidate.fits and _is_greedy(fields) else None
    streamed = primary.body.startswith(b"data:")
    return Pair(
        at_s, primary.whole_s or 0.0,
        latency=_ratio(candidate.whole_s, primary.whole_s) if primary.timely else None,
        first_token=_ratio(candidate.first_s, primary.first_s) if primary.timely and streamed else None,
        agreement=same, length=_ratio(_words(others), _words(texts)),
    )  # fmt: skip


def _texts(answer: Recording) -> list[str] | None:
    """The texts of an answer; one that was too long to keep counts as having none, which is no error."""
    return texts_of(bytes(answer.body)) if answer.fits else []


def _is_greedy(fields: Mapping[str, Any]) -> bool:
    temperature = fields.get("temperature")
    return isinstance(temperature, int | float) and 0 <= temperature < _GREEDY


def _words(texts: Sequence[str]) -> float | None:
    return sum(len(text.split()) for text in texts) or None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
