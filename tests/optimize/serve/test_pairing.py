"""What is taken down of answers, and what a pair of them says, on a virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from optimize.serve.answer_text import texts_of
from optimize.serve.pairing import pair_of
from optimize.serve.recording import Recording

GREEDY = {"temperature": 0}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def recorded(
    *pieces: tuple[float, bytes], status: int = 200, held_s: float = 0.0, whole: bool = True, attempts: int = 1
) -> Recording:
    """An answer whose pieces come after these seconds each, to a client that takes some seconds for each."""
    clock = Clock()
    recording = Recording(clock, attempts=attempts)

    async def answer() -> AsyncIterator[bytes]:
        for after_s, piece in pieces:
            clock.now += after_s
            yield piece
        if not whole:
            raise ConnectionResetError

    async def pass_on() -> None:
        async for _ in recording.passing(status, answer()):
            clock.now += held_s

    with contextlib.suppress(ConnectionResetError):
        asyncio.run(pass_on())
    return recording


def completion(*texts: str) -> bytes:
    return json.dumps({"choices": [{"index": n, "text": text} for n, text in enumerate(texts)]}).encode()


def events(*words: str) -> list[bytes]:
    return [b"data: " + completion(word) + b"\n\n" for word in words] + [b"data: [DONE]\n\n"]


def test_a_pair_has_the_ratios_of_times_and_lengths_and_what_is_alike() -> None:
    one = recorded(*zip([1.0, 1.0, 0.0], events("the old", " dog"), strict=True))
    other = recorded(*zip([2.0, 1.0, 0.0], events("the old", " cat"), strict=True))
    pair = pair_of(GREEDY, one, other)
    assert pair is not None
    assert (pair.failed, pair.latency, pair.first_token, pair.length) == (False, 1.5, 2.0, 1.0)
    assert pair.agreement == pytest.approx(2 / 3)


def test_an_answer_in_one_piece_has_no_first_token_and_a_sampled_one_no_agreement() -> None:
    one, other = recorded((1.0, completion("a b"))), recorded((1.0, completion("c")))
    for fields in ({}, {"temperature": 0.7}, {"temperature": "0"}):
        pair = pair_of(fields, one, other)
        assert pair is not None
        assert (pair.first_token, pair.agreement, pair.length) == (None, None, 0.5)


@pytest.mark.parametrize(
    "candidate",
    [
        recorded((1.0, b"{}"), status=503),
        recorded(),
        recorded((1.0, completion("a")), whole=False),
        recorded((1.0, b'data: {"error": {"message": "no"}}\n\n')),
        recorded((1.0, b"<html>")),
    ],
    ids=["refused", "nothing", "broken off", "error in a stream", "no JSON"],
)
def test_a_candidate_without_a_whole_answer_has_failed(candidate: Recording) -> None:
    pair = pair_of(GREEDY, recorded((1.0, completion("a"))), candidate)
    assert pair is not None and pair.failed


def test_an_error_of_the_serving_engine_says_nothing_of_the_candidate() -> None:
    error = recorded((1.0, b'{"error": "too long"}'), status=400)
    broken = recorded((1.0, completion("a")), whole=False)
    assert [pair_of(GREEDY, one, recorded((1.0, b""), status=400)) for one in (error, broken)] == [None, None]


def test_times_count_only_where_they_are_the_engines() -> None:
    other = recorded((1.0, completion("a")))
    slow_client = recorded((1.0, completion("a")), held_s=0.5)
    second_engine = recorded((1.0, completion("a")), attempts=2)
    waited = recorded((1.0, completion("a")))
    waited.waited = True
    for one in (slow_client, second_engine, waited):
        pair = pair_of(GREEDY, one, other)
        assert pair is not None and (pair.latency, pair.agreement) == (None, 1.0)


def test_of_a_very_long_answer_the_times_are_kept_and_the_text_is_not() -> None:
    long = recorded((1.0, completion("a " * (1 << 18))), (1.0, b"x"))
    assert not long.fits
    pair = pair_of(GREEDY, long, recorded((1.0, completion("a"))))
    assert pair is not None and (pair.latency, pair.agreement, pair.length) == (0.5, None, None)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ({"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]}, ["a", "b"]),
        ({"choices": [{"message": {"content": "a"}}]}, ["a"]),
        ({"choices": [{"message": {"content": None, "reasoning_content": "why"}}]}, ["why"]),
        ({"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}, ["f{}"]),
        ({"choices": []}, None),
        ({"choices": [3]}, None),
        ({"error": {"message": "no"}, "choices": []}, None),
        ([], None),
    ],
)
def test_texts_are_found_in_completions_and_chats(content: Any, texts: list[str] | None) -> None:
    assert texts_of(json.dumps(content).encode()) == texts


def test_the_pieces_of_a_streamed_chat_are_put_together() -> None:
    deltas: list[dict[str, object]] = [{"role": "assistant"}, {"content": "the "}, {"content": "dog"}]
    stream = [b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() for delta in deltas]
    usage = b'data: {"choices": [], "usage": {"total_tokens": 3}}'
    assert texts_of(b"\r\n\r\n".join([*stream, usage, b"data: [DONE]"])) == ["the dog"]
