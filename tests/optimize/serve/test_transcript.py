"""One stream out of two engines, for every place at which the first one can die."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from optimize.serve.progress import Contradiction, TokenRoom
from optimize.serve.stream_request import CHAT, COMPLETIONS, StreamRequest, stream_request
from optimize.serve.transcript import Transcript
from tests.optimize.serve.byte_model import LENGTH_MAX, events, incomplete

ANSWER = "Grüße ENDE, 😀 EN D\n\nEND of it."
PROMPT: dict[str, Any] = {"prompt": "Hällo>", "max_tokens": 60}
TALK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hällo"}]}
USAGE = {"include_usage": True, "continuous_usage_stats": True}


def request(fields: Mapping[str, Any]) -> StreamRequest:
    stream = stream_request(CHAT if "messages" in fields else COMPLETIONS, {"stream": True, **fields})
    assert stream is not None
    return stream


def asked(body: bytes) -> dict[str, Any]:
    return dict(json.loads(body))


@dataclass
class Stream:
    """What a client makes of the events that it gets."""

    text: str = ""
    heads: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    finish: list[str] = field(default_factory=list)
    usage: dict[str, int] | None = None


def client(data: bytes) -> Stream:
    stream = Stream()
    assert data.endswith(b"\n\n")
    for event in data.split(b"\n\n")[:-1]:
        content = event.removeprefix(b"data: ")
        stream.counts["done"] += content == b"[DONE]"
        if content == b"[DONE]":
            continue
        chunk = json.loads(content)
        assert not chunk.get("prompt_token_ids")
        stream.heads.add(str([chunk[name] for name in ("id", "object", "created", "model")]))
        stream.usage = chunk.get("usage", stream.usage)
        stream.counts["usage"] += not chunk["choices"]
        for choice in chunk["choices"]:
            assert choice["token_ids" if "token_ids" in choice else "logprobs"] is None
            stream.counts["role"] += "role" in choice.get("delta", ())
            stream.text += choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            stream.finish += [choice["finish_reason"]] if choice["finish_reason"] else []
    return stream


def cuts(sent: list[bytes]) -> Iterator[bytes]:
    """All beginnings of a stream that end between two of its events, or within one."""
    for count in range(1, len(sent) + 1):
        yield b"".join(sent[:count])
        if count < len(sent):
            yield b"".join(sent[:count]) + sent[count][: len(sent[count]) // 2]


def completed(transcript: Transcript, at_a_time: int = 1, settled: bool = False) -> bytes:
    """The rest of a stream from a second engine, which has been asked, if `settled`, what its tokens end with."""
    ending = transcript.ending()
    if ending is not None:
        return ending
    assert transcript.resumable
    if settled and transcript.doubtful:
        transcript.settle(incomplete(transcript.doubtful))
    body = transcript.resume(LENGTH_MAX)
    assert body is not None
    return b"".join(transcript.take(event) for event in events(asked(body), ANSWER, at_a_time, "2"))


KINDS = {
    "completion": PROMPT | {"stream_options": USAGE},
    "chat": TALK | {"stream_options": USAGE},
    "chat without usage": TALK,
    "limit": PROMPT | {"max_tokens": 9, "stream_options": USAGE},
    "default limit": {"prompt": "a>", "stream_options": USAGE},
    "stop": PROMPT | {"stop": ["END", "\n\n", "of it"], "temperature": 0},
    "stop across characters": TALK | {"stop": ["D\n\nEND"], "temperature": 0, "stream_options": USAGE},
    "stop included": TALK | {"stop": "\n\nEND", "include_stop_str_in_output": True, "temperature": 0},
}


@pytest.mark.parametrize(("at_a_time", "settled"), [(1, False), (3, True)])
@pytest.mark.parametrize("fields", KINDS.values(), ids=list(KINDS))
def test_wherever_an_engine_dies_the_client_gets_the_stream_of_one(
    fields: dict[str, Any], at_a_time: int, settled: bool
) -> None:
    stream = request({"temperature": 0, **fields})
    sent = events(asked(stream.encoded), ANSWER, at_a_time)
    undisturbed = client(b"".join(events(fields, ANSWER, at_a_time)))
    assert undisturbed.text and undisturbed.counts["done"] == len(undisturbed.finish) == 1
    for beginning in cuts(sent):
        transcript = Transcript(stream, TokenRoom(1000))
        first = transcript.take(beginning)
        assert client(first + completed(transcript, settled=settled)) == undisturbed, beginning


@pytest.mark.parametrize("fields", [PROMPT, TALK], ids=["completion", "chat"])
def test_an_undisturbed_stream_is_to_the_byte_what_the_client_would_have_got(fields: dict[str, Any]) -> None:
    stream = request(fields)
    transcript = Transcript(stream, TokenRoom(1000))
    got = b"".join(transcript.take(event) for event in events(asked(stream.encoded), ANSWER))
    assert got == b"".join(events(fields, ANSWER))
    assert transcript.ending() == b""


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_sampled_answers_go_on_after_the_last_character_and_are_not_repeated(at_a_time: int) -> None:
    stream = request({**PROMPT, "temperature": 0.7, "seed": 1})
    for beginning in cuts(events(asked(stream.encoded), ANSWER, at_a_time)):
        transcript = Transcript(stream, TokenRoom(1000))
        first = transcript.take(beginning)
        if transcript.ending() is not None:
            continue
        assert transcript.resumable and bool(transcript.doubtful) == (at_a_time > 1)
        transcript.settle(incomplete(transcript.doubtful))
        body, other = asked(transcript.resume(None) or b"{}"), client(first).text + " and so on"
        assert (body["temperature"], body["seed"]) == (0.7, 1)
        rest = b"".join(transcript.take(event) for event in events(body, other, request_id="2"))
        assert client(first + rest).text == other


@pytest.mark.parametrize("fields", [PROMPT, TALK], ids=["completion", "chat"])
def test_sampled_answers_with_stop_strings_reach_the_client_only_as_far_as_another_engine_can_go_on(
    fields: dict[str, Any],
) -> None:
    stream = request({**fields, "temperature": 0.7, "stop": ["END!", "so on"], "max_tokens": 60})
    sent = events(asked(stream.encoded), "ü wörld END of it, and so on")
    for beginning in cuts(sent[:-4]):
        transcript = Transcript(stream, TokenRoom(1000))
        first = transcript.take(beginning)
        assert transcript.resumable
        other = client(first).text + "aND! END! and more"
        continuation = events(asked(transcript.resume(LENGTH_MAX) or b"{}"), other, 2, "2")
        rest = b"".join(transcript.take(event) for event in continuation)
        assert client(first + rest).text == client(first).text + "aND! "
    transcript = Transcript(stream, TokenRoom(1000))
    assert client(b"".join(map(transcript.take, sent))).text == "ü wörld END of it, and "


@pytest.mark.parametrize(("stop", "resumable"), [("END", False), (None, True)])
def test_sampled_answers_of_which_a_part_would_be_repeated_are_not_gone_on_with(
    stop: str | None, resumable: bool
) -> None:
    stream = request({**PROMPT, "temperature": 0.7, "stop": stop, "max_tokens": 200})
    transcript = Transcript(stream, TokenRoom(1000))
    transcript.take(b"".join(events(asked(stream.encoded), "ü" * 100, 3)[:50]))
    assert transcript.resumable == resumable
    transcript.settle(None)  # nobody knows what the tokens end with
    assert not transcript.resumable


def test_a_second_engine_that_repeats_something_else_is_contradicted() -> None:
    stream = request({**PROMPT, "temperature": 0})
    transcript = Transcript(stream, TokenRoom(1000))
    transcript.take(b"".join(events(asked(stream.encoded), "one two", 3)[:2]))
    body = asked(transcript.resume(None) or b"{}")
    with pytest.raises(Contradiction):
        transcript.take(b"".join(events(body, "one tea")))


def test_a_third_engine_goes_on_where_the_second_died_even_within_what_it_repeats() -> None:
    stream = request({**TALK, "temperature": 0, "stop": ["\n\nEND"], "stream_options": USAGE})
    sent = events(asked(stream.encoded), ANSWER)
    undisturbed = client(b"".join(events(dict(stream.fields), ANSWER)))
    for first_cut in range(1, len(sent) - 3, 2):
        for second_cut in (1, 3, 6):
            transcript = Transcript(stream, TokenRoom(1000))
            got = transcript.take(b"".join(sent[:first_cut]))
            continuation = events(asked(transcript.resume(LENGTH_MAX) or b"{}"), ANSWER, 2, "2")[:second_cut]
            got += b"".join(transcript.take(event) for event in continuation)
            assert client(got + completed(transcript)) == undisturbed


def test_tokens_beyond_the_room_for_them_are_not_held_and_all_are_given_back() -> None:
    stream, room = request({**PROMPT, "stream_options": USAGE}), TokenRoom(12)
    transcripts = [Transcript(stream, room) for _ in range(2)]
    for transcript in transcripts:
        transcript.take(b"".join(events(asked(stream.encoded), ANSWER)[:3]))
    assert [transcript.resumable for transcript in transcripts] == [True, False] and room.size == 10
    got = transcripts[1].take(b"".join(events(asked(stream.encoded), ANSWER)[3:]))
    assert client(got).counts["done"] == 1
    for transcript in transcripts:
        transcript.close()
        transcript.close()
    assert room.size == 0


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"reasoning": "hm"}, "token_ids": [1]},
        {"delta": {"tool_calls": [{"index": 0}]}, "token_ids": [1]},
        {"delta": {}, "token_ids": [1]},
        {"delta": {"content": "a"}},
        {"delta": {"content": "a"}, "token_ids": None},
    ],
)
def test_the_answer_of_a_parser_or_without_tokens_is_passed_on_but_not_gone_on_with(choice: dict[str, Any]) -> None:
    transcript = Transcript(request(TALK), TokenRoom(1000))
    head = events({**TALK, "return_token_ids": True}, ANSWER)[0]
    event = b"data: " + json.dumps({"id": "1", "choices": [{"index": 0, **choice}]}).encode() + b"\n\n"
    assert transcript.take(head) and transcript.resumable
    got = transcript.take(event)
    assert bool(got) == bool(choice["delta"])  # an empty one came only because of the tokens
    assert not transcript.resumable


def test_nothing_is_gone_on_with_before_the_prompts_tokens_are_known() -> None:
    transcript = Transcript(request(TALK), TokenRoom(1000))
    transcript.take(events(TALK, ANSWER)[0])
    assert not transcript.resumable


def test_the_first_error_and_what_follows_it_wait_for_a_decision() -> None:
    transcript = Transcript(request(PROMPT), TokenRoom(1000))
    error = b'data: {"error": {"code": 500}}\n\ndata: [DONE]\n\n'
    event = events({**PROMPT, "return_token_ids": True}, ANSWER)[0]
    assert client(transcript.take(event + error)).text == "G"
    assert transcript.resumable and transcript.error == error
    assert transcript.error_passed() == error
    assert not transcript.resumable and transcript.error_passed() == b""


def test_the_abort_of_an_engine_that_is_ended_counts_as_an_error() -> None:
    transcript = Transcript(request(TALK), TokenRoom(1000))
    aborted = events({**TALK, "return_token_ids": True, "max_tokens": 2}, ANSWER)
    aborted[2] = aborted[2].replace(b'"length"', b'"abort"')
    got = transcript.take(b"".join(aborted))
    assert transcript.resumable and client(got).finish == [] and client(got).text == "G"
    assert client(transcript.error_passed()).finish == ["abort"] and not transcript.resumable


def test_what_is_no_event_of_the_api_passes_as_it_is() -> None:
    transcript = Transcript(request(PROMPT), TokenRoom(1000))
    for data in (b": ping\n\n", b"data: no JSON\n\n"):
        assert transcript.take(data) == data
