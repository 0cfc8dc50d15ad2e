"""The answers of vLLM, SGLang, llama.cpp, TGI, Ollama, Azure, OpenAI and gateways, read as each of them is meant."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import yaml

from optimize.load.answer import Answer
from optimize.load.event_stream import EventStream
from tests.conftest import ROOT
from tests.optimize.load.replay import Replay, answers, response

Dialect = dict[str, Any]
DIALECTS: list[Dialect] = yaml.safe_load((ROOT / "tests/data/dialects.yaml").read_text(encoding="utf-8"))
STREAMS = [d for d in DIALECTS if "content_type" not in d]


def name_of(dialect: Dialect) -> str:
    return str(dialect["name"])


def raw(dialect: Dialect) -> bytes:
    return str(dialect["body"]).encode()


@pytest.mark.parametrize("dialect", DIALECTS, ids=name_of)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_dialect_is_read_as_it_is_meant(dialect: Dialect, packed: bool) -> None:
    kind = dialect.get("content_type", "text/event-stream")
    whole = response(gzip.compress(raw(dialect)), kind, headers="Content-Encoding: gzip\r\n")
    (record,) = answers(Replay([whole if packed else response(raw(dialect), kind)]))
    assert record.error == dialect.get("error"), record.text
    if record.error is not None:
        assert record.text.startswith(dialect["reason"])
        return
    counts = (record.prompt_tokens, record.output_tokens)
    assert record.text == dialect["text"]
    assert counts[1] is None if dialect["tokens"] is None else counts == tuple(dialect["tokens"])
    assert (record.first_token_s is not None) == dialect.get("streams", True)


def summary(data: list[bytes]) -> tuple[Any, ...]:
    """What becomes of a stream that arrives in these pieces."""
    stream, answer, documents = EventStream(), Answer(), 0
    try:
        for piece in [*data, b""]:
            for document in stream.feed(piece) if piece else stream.close():
                answer.take(document, float(documents := documents + 1))
        answer.end(float(documents), stream.ended)
    except ValueError as error:
        return (str(error),)
    counts = (answer.prompt_tokens, answer.output_tokens)
    return answer.text, answer.error, counts, answer.first_token_s, answer.first_answer_s


@pytest.mark.parametrize("dialect", STREAMS, ids=name_of)
def test_it_makes_no_difference_where_a_stream_is_cut(dialect: Dialect) -> None:
    body = raw(dialect)
    whole = summary([body])
    assert summary([bytes([byte]) for byte in body]) == whole
    cuts = [at for at in range(1, len(body)) if body[at] > 127 or body[at] in b"\r\n" or at % 61 == 0]
    assert all(summary([body[:at], body[at:]]) == whole for at in cuts)


@pytest.mark.parametrize("dialect", [d for d in STREAMS if "error" not in d], ids=name_of)
def test_the_first_token_is_of_any_kind_and_that_of_the_answer_follows_the_thinking(dialect: Dialect) -> None:
    *_, first_token_s, first_answer_s = summary([raw(dialect)])
    assert first_token_s is not None and (first_token_s != first_answer_s) == dialect.get("thinks", False)
    assert first_answer_s is not None or dialect["text"] == ""
