"""Numbers of a model's tokens in texts, counted by its tokenizer's file alone and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.checkpoint import local_folder
from optimize.entries import claim, read_kept
from optimize.errors import ConfigError
from optimize.files import write_atomically

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_REMEDY = "workload.max_tokens is not set and cannot be derived from the references: set workload.max_tokens"
_BATCH, _SILENT_S = 2000, 5.0


def token_counts(
    texts: Sequence[str], model: str, cache_folder: Path, special: bool = True, say: Callable[[str], None] = print
) -> list[int]:
    """Number of the model's tokens in each text, kept in the cache.

    Args:
        texts: The texts.
        model: The model.
        cache_folder: Root of the cache.
        special: Whether those count that the tokenizer adds to every text.
        say: Prints how far it is, after some seconds and now and then.

    Raises:
        ConfigError: the model has no tokenizer file on this disk.
    """
    tokenizer_file = _tokenizer_json(model, _REMEDY) + (b"" if special else b"plain")
    key = hashlib.sha256(tokenizer_file + json.dumps(list(texts)).encode()).hexdigest()[:16]
    path = claim(cache_folder / "tokens" / key) / "counts.json"
    if (counts := read_kept(path)) is not None:
        return [int(n) for n in counts]
    counts = list(_counted(texts, tokenizer_of(model, _REMEDY), special, say))
    write_atomically(path, json.dumps(counts))
    return counts


def _counted(texts: Sequence[str], tokenizer: Tokenizer, special: bool, say: Callable[[str], None]) -> Iterator[int]:
    """The counts of texts, which the tokenizer's own threads take in batches."""
    said_at = time.monotonic()
    for start in range(0, len(texts), _BATCH):
        if time.monotonic() - said_at > _SILENT_S:
            said_at = time.monotonic()
            say(f"  counting tokens: {start:,} of {len(texts):,} texts")
        batch = tokenizer.encode_batch(list(texts[start : start + _BATCH]), add_special_tokens=special)
        yield from (len(encoded.ids) for encoded in batch)


def special_tokens(model: str) -> int:
    """Tokens that the model's tokenizer adds to every text; 0 where it has no file on this disk."""
    try:
        return len(tokenizer_of(model, "").encode("").ids)
    except ConfigError:
        return 0


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
