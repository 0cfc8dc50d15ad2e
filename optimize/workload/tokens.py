"""Numbers of a model's tokens in texts, counted by its tokenizer's file alone and kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.checkpoint import local_folder
from optimize.entries import claim, read_kept
from optimize.errors import ConfigError
from optimize.files import write_atomically

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def token_counts(texts: Sequence[str], model: str, cache_folder: Path) -> list[int]:
    """Number of the model's tokens in each text, kept in the cache.

    Raises:
        ConfigError: the model has no tokenizer file on this disk.
    """
    remedy = "workload.max_tokens is not set and cannot be derived from the references: set workload.max_tokens"
    key = hashlib.sha256(_tokenizer_json(model, remedy) + json.dumps(list(texts)).encode()).hexdigest()[:16]
    path = claim(cache_folder / "tokens" / key) / "counts.json"
    if (counts := read_kept(path)) is not None:
        return [int(n) for n in counts]
    counts = [len(encoded.ids) for encoded in tokenizer_of(model, remedy).encode_batch(list(texts))]
    write_atomically(path, json.dumps(counts))
    return counts


def tokenizer_of(model: str, remedy: str) -> Tokenizer:
    """A model's tokenizer.

    Raises:
        ConfigError: it has no readable file on this disk; ends with the remedy.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(_tokenizer_json(model, remedy))
    except Exception as error:  # tokenizers raises nothing more special
        raise ConfigError(f"{model} has no readable tokenizer.json; {remedy}") from error


def _tokenizer_json(model: str, remedy: str) -> bytes:
    try:
        return (local_folder(model) / "tokenizer.json").read_bytes()
    except Exception as error:  # a hub id may have no local files yet, and the hub's errors are many
        raise ConfigError(f"{model} has no readable tokenizer.json; {remedy}") from error
