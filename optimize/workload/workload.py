"""Prompts with reference answers, loaded through `datasets` from a file or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from optimize.config.instantiate import build
from optimize.config.measuring import REFERENCE_COLUMN, WorkloadSource
from optimize.entries import claim, renew
from optimize.errors import ConfigError, closest, one_line
from optimize.traces.requests import Requests
from optimize.workload.lengths import Lengths
from optimize.workload.texts import of_lengths, of_requests
from optimize.workload.tokens import token_counts

Prompt = str | list[dict[str, Any]]
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_ANSWER_MARGIN, _MAX_TOKENS = 1.25, 128


@dataclass(frozen=True)
class Workload:
    """Prompts and reference answers.

    Attributes:
        name: Name for display.
        prompts: Plain text, or chat messages with role and content.
        references: One reference answer per prompt; empty where answers cannot be scored.
        max_tokens: Bound on every answer.
        output_tokens: Length that the answer to each prompt runs to; None where answers end by themselves.
        in_order: Whether prompts are sent in their order rather than in a seeded one.
        limits: Bound on the answer to each prompt, none above `max_tokens`; None where all have the same.
        notes: What a user should know of how the source was read, each in a sentence.
    """

    name: str
    prompts: Sequence[Prompt]
    references: Sequence[str]
    max_tokens: int
    output_tokens: Sequence[int] | None = None
    in_order: bool = False
    limits: Sequence[int] | None = None
    notes: Sequence[str] = ()

    def bound(self, row: int) -> int:
        """Bound on the answer to one prompt, in tokens."""
        return self.max_tokens if self.limits is None else self.limits[row]

    def only(self, rows: Sequence[int]) -> Workload:
        """The workload with these rows alone."""
        columns = {name: getattr(self, name) for name in ("prompts", "references", "output_tokens", "limits")}
        selection: dict[str, Any] = {name: [column[row] for row in rows] for name, column in columns.items() if column}
        return replace(self, **selection)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over prompts, references, bounds on answers, and their lengths and order if set."""
        parts = [list(self.prompts), list(self.references), self.max_tokens]
        if self.output_tokens is not None:
            parts += [list(self.output_tokens), self.in_order]
        elif self.limits is not None or self.in_order:
            parts += [list(self.limits or []), self.in_order]
        raw = json.dumps(parts, ensure_ascii=False)
        return hashlib.sha256(raw.encode()).hexdigest()[:12]


def load_workload(
    source: WorkloadSource, model: str, cache_folder: Path, seed: int = 0, recorded: Requests | None = None,
    needs_references: bool = False,
) -> Workload:  # fmt: skip
    """Load, check and bound a workload.

    Args:
        source: Its source and columns.
        model: Model whose tokens are counted.
        cache_folder: Root of the cache.
        seed: Seed of lengths drawn from a distribution.
        recorded: Recorded requests in order, whose lengths and texts take the place of others.
        needs_references: Whether a file without the default column of references is refused.

    Raises:
        ConfigError: missing or broken file, missing column, empty data set, wrong types, lengths that do not fit.
    """
    rows = _read(source, cache_folder)
    bare = not needs_references and _is_bare(rows.column_names, source)
    source = replace(source, reference_column=None) if bare else source
    prompts: Sequence[Prompt]
    prompts, references = _columns(rows, source)
    lengths = _lengths(source, len(prompts), seed, recorded)
    if lengths is None:
        limits = _limits(rows, source, len(prompts))
        max_tokens = source.max_tokens or max(limits or [0]) or _longest(references, source, model, cache_folder)
        limits = limits and [min(limit, max_tokens) for limit in limits]
        notes = [_bare_note(source, max_tokens)] if bare else []
        return Workload(source.name, prompts, references, max_tokens, None, source.in_order, limits, notes)
    prompt_tokens, output_tokens = lengths
    if recorded is not None:
        prompts = _recorded_prompts(prompts, prompt_tokens, recorded, model)
    elif prompt_tokens is not None:
        prompts = of_lengths(prompts, prompt_tokens, model)
    bound = max(output_tokens) if output_tokens is not None else source.max_tokens
    if bound is None:
        raise ConfigError("workload.prompt_tokens leaves no references to bound answers by: set workload.max_tokens")
    return Workload(source.name, prompts, [], bound, output_tokens, recorded is not None or source.in_order)


def _recorded_prompts(
    prompts: Sequence[Prompt], lengths: Sequence[int] | None, recorded: Requests, model: str
) -> Sequence[Prompt]:
    """The prompts of recorded requests: their own texts, others of their lengths, or the workload's in turn."""
    if recorded.texts is not None:
        return recorded.texts
    if lengths is not None:
        return of_requests(prompts, replace(recorded, prompt_tokens=np.array(lengths)), model)
    return [prompts[row % len(prompts)] for row in range(len(recorded))]


def _lengths(
    source: WorkloadSource, rows: int, seed: int, recorded: Requests | None
) -> tuple[list[int] | None, list[int] | None] | None:
    """Lengths of prompts and of answers, each where they are set; None where the data decide both."""
    rng = random.Random(seed)
    drawn: list[list[int] | None] = []
    for name in ("prompt_tokens", "output_tokens"):
        node, column = getattr(source, name), getattr(recorded, name, None)
        if column is not None:
            drawn.append(column.tolist())
        elif node is None:
            drawn.append(None)
        else:
            lengths: Lengths = build(node, f"workload.{name}")
            drawn.append([lengths.draw(rng) for _ in range(len(recorded or range(rows)))])
    return None if drawn == [None, None] and recorded is None else (drawn[0], drawn[1])


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
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # a request to the hub, for a file of this disk too
    cache = _cache_entry(source, path if builder is not None else None, cache_folder / "datasets")
    try:
        if builder is None:
            return datasets.load_dataset(source.path, source.subset, split=source.split, cache_dir=str(cache))
        load = partial(datasets.load_dataset, builder, data_files=str(path), split="train")
        try:
            return load(cache_dir=str(cache))
        except Exception:  # of the file itself, or of its rows in the cache
            return load(cache_dir=str(renew(cache)))
    except Exception as error:  # datasets raises a different class for every backend
        reason = one_line(error.__cause__ or error)
        raise ConfigError(f"workload.path={source.path} cannot be read: {reason}{_broken_line(path)}") from error


def _cache_entry(source: WorkloadSource, file: Path | None, folder: Path) -> Path:
    """The cache's entry for a file's rows, or for a data set of the hub: that of an earlier version where there is one,
    since it cannot be made again without a network.
    """
    earlier = folder / source.path.replace("/", "___")
    if file is None and earlier.is_dir():
        return folder
    key = [str(file.resolve())] if file is not None else [source.path, source.subset]
    return claim(folder / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16])


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"workload.path={path} does not exist: give an existing JSONL, CSV or Parquet file")
    if path.stat().st_size == 0:
        raise ConfigError(f"workload.path={path} is empty: give at least one row with prompt and reference")
    broken = _broken_line(path)
    if broken:
        raise ConfigError(f"workload.path={path} is not valid JSON lines{broken}")


def _broken_line(path: Path) -> str:
    """The first line of a JSONL file that is not a JSON object, as the end of a message; empty where there is none."""
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                valid = not line.strip() or isinstance(json.loads(line), dict)
            except ValueError:
                valid = False
            if not valid:
                return f": line {number} is not a JSON object: {line.strip()[:60]!r}; correct or remove it"
    return ""


def _is_bare(columns: Sequence[str], source: WorkloadSource) -> bool:
    """Whether a file holds prompts alone: the default column of references is missing, and no misspelt one is there."""
    name = source.reference_column
    return name == REFERENCE_COLUMN and name not in columns and not get_close_matches(name, columns)


def _bare_note(source: WorkloadSource, max_tokens: int) -> str:
    return (
        f"workload {source.name}: {source.path} has no column {REFERENCE_COLUMN!r} and is taken as prompts alone "
        f"(workload.reference_column names another); answers have at most {max_tokens} tokens (workload.max_tokens)"
    )


def _columns(rows: Any, source: WorkloadSource) -> tuple[list[Prompt], list[str]]:
    for key in ("prompt_column", "reference_column", "max_tokens_column"):
        name = getattr(source, key)
        if name is not None and name not in rows.column_names:
            raise ConfigError(
                f"workload.{key}={name!r} is not a column of {source.path}; {closest(name, rows.column_names)}"
            )
    if source.limit is not None:
        rows = rows.select(range(min(source.limit, len(rows))))
    if len(rows) == 0:
        raise ConfigError(f"workload.path={source.path} has no rows: give at least one with prompt and reference")
    prompts = [_prompt(value, row, source) for row, value in enumerate(rows[source.prompt_column])]
    if source.reference_column is None:
        return prompts, []
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


def _limits(rows: Any, source: WorkloadSource, number: int) -> list[int] | None:
    """Bounds on the answers to the first `number` rows, as their column says; None without one."""
    if source.max_tokens_column is None:
        return None
    for row, value in enumerate(values := rows[source.max_tokens_column][:number]):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(
                f"workload {source.path}, row {row}: {source.max_tokens_column} must be a whole number from 1, "
                f"got {value!r:.80}"
            )
    return list(values)


def _longest(references: Sequence[str], source: WorkloadSource, model: str, cache_folder: Path) -> int:
    """Tokens of the longest reference, plus a quarter; a round number without references.

    Beam search runs for max_tokens steps even where the answer ends before, so a loose bound costs time in every
    request.
    """
    if not references:
        return _MAX_TOKENS
    return math.ceil(max(token_counts(references, model, cache_folder)) * _ANSWER_MARGIN)
