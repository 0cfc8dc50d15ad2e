"""A tokenizer that the user names counts what the server did not, and nothing else."""

from __future__ import annotations

import pytest

from objectives import RequestRecord
from optimize.engine.remote import RemoteLauncher
from optimize.errors import ConfigError
from optimize.evaluation.token_counts import counted
from tests.conftest import ROOT

MODEL = str(ROOT / "demo/model")


def record(
    tokens: int | None, text: str = "der Hund sieht", error: str | None = None, answer_s: float | None = 1.0
) -> RequestRecord:
    return RequestRecord(0, 0.0, 0.0, 1.0, 2.0, None, tokens, text, error, answer_s)


def test_answers_without_a_count_get_that_of_the_tokenizer() -> None:
    longer = record(None, "der Hund sieht die Katze")
    own, first, second, thinking, failed = counted(
        [record(7), record(None), longer, record(None, answer_s=1.5), record(None, error="timeout")], MODEL
    )
    assert own.output_tokens == 7
    assert first.output_tokens is not None and second.output_tokens is not None
    assert 0 < first.output_tokens < second.output_tokens
    assert thinking.output_tokens is None and failed.output_tokens is None


def test_without_a_tokenizer_nothing_is_counted() -> None:
    assert counted([record(None)], None) == [record(None)]


def test_the_signature_says_who_counted_and_a_folder_without_a_tokenizer_is_refused() -> None:
    assert "counted by demo/model" in RemoteLauncher("http://h", tokenizer="demo/model").version()
    for folder in ("conf", "no/such/folder"):
        with pytest.raises(ConfigError, match=rf"engine\.tokenizer={folder} has no tokenizer\.json"):
            RemoteLauncher("http://h", tokenizer=folder).preflight([])
