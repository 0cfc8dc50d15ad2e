"""Prompts with reference answers, loaded through `datasets` from a file or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.checkpoint import local_folder
from optimize.errors import ConfigError, closest
from optimize.ledger import write_atomically
from optimize.schema import WorkloadSource

Prompt = str | list[dict[str, Any]]
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_ANSWER_MARGIN = 1.25


@dataclass(frozen=True)
class Workload:
    """What is asked, and what good answers look like.

    Attributes:
        name: For people.
        prompts: Plain text, or chat messages with role and content.
        references: One reference answer per prompt.
        max_tokens: Bound on every answer.
    """

    name: str
    prompts: Sequence[Prompt]
    references: Sequence[str]
    max_tokens: int

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over prompts, references and the bound on answers."""
        raw = json.dumps([list(self.prompts), list(self.references), self.max_tokens], ensure_ascii=False)
        return hashlib.sha256(raw.encode()).hexdigest()[:12]


def load_workload(source: WorkloadSource, model: str, cache_folder: Path) -> Workload:
    """Load, check and bound a workload.

    Raises:
        ConfigError: missing or broken file, missing column, empty data set, wrong types.
    """
    rows = _read(source, cache_folder)
    prompts, references = _columns(rows, source)
    max_tokens = source.max_tokens or _longest(references, model, cache_folder)
    return Workload(source.name, prompts, references, max_tokens)


def _read(source: WorkloadSource, cache_folder: Path) -> Any:
    path = Path(source.path).expanduser()
    builder = _BUILDERS.get(path.suffix.lower())
    if builder is not None:
        _check_file(path)
    elif path.exists():
        raise ConfigError(
            f"workload.path={source.path}: a file must end in {', '.join(_BUILDERS)}; convert it or rename it"
        )
    import datasets

    datasets.disable_progress_bars()
    cache = str(cache_folder / "datasets")
    try:
        if builder is not None:
            return datasets.load_dataset(builder, data_files=str(path), split="train", cache_dir=cache)
        return datasets.load_dataset(source.path, source.subset, split=source.split, cache_dir=cache)
    except Exception as error:  # datasets raises a different class for every backend
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(f"workload.path={source.path} cannot be read: {reason}{_broken_line(path)}") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"workload.path={path} does not exist: give an existing JSONL, CSV or Parquet file")
    if path.stat().st_size == 0:
        raise ConfigError(f"workload.path={path} is empty: give at least one row with prompt and reference")
    broken = _broken_line(path)
    if broken:
        raise ConfigError(f"workload.path={path} is not valid JSON lines{broken}")


def _broken_line(path: Path) -> str:
    """Which line of a JSONL file is no JSON object, as the end of a message."""
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                whole = not line.strip() or isinstance(json.loads(line), dict)
            except ValueError:
                whole = False
            if not whole:
                return f": line {number} is not a JSON object: {line.strip()[:60]!r}; mend or remove it"
    return ""


def _columns(rows: Any, source: WorkloadSource) -> tuple[list[Prompt], list[str]]:
    for key in ("prompt_column", "reference_column"):
        name = getattr(source, key)
        if name not in rows.column_names:
            raise ConfigError(
                f"workload.{key}={name!r} is not a column of {source.path}; {closest(name, rows.column_names)}"
            )
    if source.limit is not None:
        rows = rows.select(range(min(source.limit, len(rows))))
    if len(rows) == 0:
        raise ConfigError(f"workload.path={source.path} has no rows: give at least one with prompt and reference")
    prompts = [_prompt(value, row, source) for row, value in enumerate(rows[source.prompt_column])]
    references = [_reference(value, row, source) for row, value in enumerate(rows[source.reference_column])]
    return prompts, references


def _prompt(value: object, row: int, source: WorkloadSource) -> Prompt:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Sequence) and value and all(_is_message(m) for m in value):
        return [dict(m) for m in value]
    raise ConfigError(
        f"workload {source.path}, row {row}: {source.prompt_column} must be text or a list of messages with role and "
        f"content, got {value!r:.80}"
    )


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str) and "content" in value


def _reference(value: object, row: int, source: WorkloadSource) -> str:
    if isinstance(value, str):
        return value
    raise ConfigError(f"workload {source.path}, row {row}: {source.reference_column} must be text, got {value!r:.80}")


def _longest(references: Sequence[str], model: str, cache_folder: Path) -> int:
    """Tokens of the longest reference, and a quarter more.

    Beam search runs for max_tokens steps whatever the answer's end, so a loose bound is paid for in every request.
    """
    return math.ceil(max(token_counts(references, model, cache_folder)) * _ANSWER_MARGIN)


def token_counts(texts: Sequence[str], model: str, cache_folder: Path) -> list[int]:
    """How many tokens of the model's each text has, kept in the cache.

    Raises:
        ConfigError: the model has no tokenizer file on this disk.
    """
    from tokenizers import Tokenizer

    try:
        file = local_folder(model) / "tokenizer.json"
        key = hashlib.sha256(file.read_bytes() + json.dumps(list(texts)).encode()).hexdigest()[:16]
        kept = cache_folder / "tokens" / f"{key}.json"
        if kept.is_file():
            return [int(n) for n in json.loads(kept.read_text(encoding="utf-8"))]
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises a bare Exception; a hub id may have no local files yet
        raise ConfigError(
            f"workload.max_tokens is not set and {model} has no readable tokenizer.json to derive it from the "
            "references: set workload.max_tokens"
        ) from error
    counts = [len(encoded.ids) for encoded in tokenizer.encode_batch(list(texts))]
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, json.dumps(counts))
    return counts
