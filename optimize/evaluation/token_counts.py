"""Tokens of answers that the server did not count, counted by a tokenizer that the user names (`engine.tokenizer`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from objectives import RequestRecord
from optimize.workload.tokens import tokenizer_of


def counted(records: Sequence[RequestRecord], tokenizer: str | None) -> list[RequestRecord]:
    """The records, with the tokens of their text where the server counted none.

    Answers with thinking stay without a count: their text does not hold it.

    Args:
        records: Requests that ended.
        tokenizer: Folder or Hugging Face id of the tokenizer; None counts nothing.

    Raises:
        ConfigError: the tokenizer has no readable file on this disk.
    """
    uncounted = [i for i, r in enumerate(records) if r.error is None and r.output_tokens is None and not r.thinks]
    done = list(records)
    if tokenizer is None or not uncounted:
        return done
    texts = [records[i].text for i in uncounted]
    encodings = tokenizer_of(tokenizer, "set engine.tokenizer to a folder that has one").encode_batch(
        texts, add_special_tokens=False
    )
    for index, encoding in zip(uncounted, encodings, strict=True):
        done[index] = replace(records[index], output_tokens=len(encoding.ids))
    return done
