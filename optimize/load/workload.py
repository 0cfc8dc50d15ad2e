"""Prompts with reference answers, loaded through `datasets` from a file or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.checkpoint import local_folder
from optimize.config.instantiate import build
from optimize.config.measuring import WorkloadSource
from optimize.entries import claim, read_kept, renew
from optimize.errors import ConfigError, closest, one_line
from optimize.files import write_atomically
from optimize.load.lengths import Lengths

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Prompt = str | list[dict[str, Any]]
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_ANSWER_MARGIN = 1.25
Recorded = tuple[int | None, int | None]


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
    """

    name: str
    prompts: Sequence[Prompt]
    references: Sequence[str]
    max_tokens: int
    output_tokens: Sequence[int] | None = None
    in_order: bool = False

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over prompts, references, the bound on answers, and their lengths if set."""
        parts = [list(self.prompts), list(self.references), self.max_tokens]
        if self.output_tokens is not None:
            parts += [list(self.output_tokens), self.in_order]
        raw = json.dumps(parts, ensure_ascii=False)
        return hashlib.sha256(raw.encode()).hexdigest()[:12]


def load_workload(
    source: WorkloadSource, model: str, cache_folder: Path, seed: int = 0, recorded: Sequence[Recorded] = ()
) -> Workload:
    """Load, check and bound a workload.

    Args:
        source: Its source and columns.
        model: Model whose tokens are counted.
        cache_folder: Root of the cache.
        seed: Seed of lengths drawn from a distribution.
        recorded: (prompt tokens, output tokens) of recorded requests in order; None where not recorded.

    Raises:
        ConfigError: missing or broken file, missing column, empty data set, wrong types, lengths that do not fit.
    """
    rows = _read(source, cache_folder)
    prompts, references = _columns(rows, source)
    lengths = _lengths(source, len(prompts), seed, recorded)
    if lengths is None:
        max_tokens = source.max_tokens or _longest(references, source, model, cache_folder)
        return Workload(source.name, prompts, references, max_tokens)
    prompt_tokens, output_tokens = lengths
    if prompt_tokens is not None:
        prompts = _fitted(prompts, prompt_tokens, model)
    elif recorded:
        prompts = [prompts[row % len(prompts)] for row in range(len(recorded))]
    bound = max(output_tokens) if output_tokens is not None else source.max_tokens
    if bound is None:
        raise ConfigError("workload.prompt_tokens leaves no references to bound answers by: set workload.max_tokens")
    return Workload(source.name, prompts, [], bound, output_tokens, in_order=bool(recorded))


def _lengths(
    source: WorkloadSource, rows: int, seed: int, recorded: Sequence[Recorded]
) -> tuple[list[int] | None, list[int] | None] | None:
    """Lengths of prompts and of answers, each where they are set; None where the data decide both."""
    rng = random.Random(seed)
    drawn: list[list[int] | None] = []
    for part, name in enumerate(("prompt_tokens", "output_tokens")):
        node = getattr(source, name)
        lengths_of_part = [request[part] for request in recorded]
        if lengths_of_part and lengths_of_part[0] is not None:
            drawn.append([int(n or 1) for n in lengths_of_part])
        elif node is None:
            drawn.append(None)
        else:
            lengths: Lengths = build(node, f"workload.{name}")
            drawn.append([lengths.draw(rng) for _ in range(len(recorded) or rows)])
    return None if drawn == [None, None] else (drawn[0], drawn[1])


def _fitted(prompts: Sequence[Prompt], lengths: Sequence[int], model: str) -> list[Prompt]:
    """Texts of the given numbers of tokens: each prompt is cut, or continued with the prompts that follow it."""
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ConfigError("workload.prompt_tokens needs prompts that are plain text: chat messages cannot be cut")
    tokenizer = _tokenizer(model, "workload.prompt_tokens needs it: remove prompt_tokens, or give a local model")
    ids = [encoded.ids for encoded in tokenizer.encode_batch([str(p) for p in prompts], add_special_tokens=False)]
    fitted: list[Prompt] = []
    for row, length in enumerate(lengths):
        tokens: list[int] = []
        for following in itertools.count(row):
            tokens += ids[following % len(ids)]
            if len(tokens) >= length:
                break
        fitted.append(tokenizer.decode(tokens[:length]))
    return fitted


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


def _columns(rows: Any, source: WorkloadSource) -> tuple[list[Prompt], list[str]]:
    for key in ("prompt_column", "reference_column"):
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


def _longest(references: Sequence[str], source: WorkloadSource, model: str, cache_folder: Path) -> int:
    """Tokens of the longest reference, plus a quarter.

    Beam search runs for max_tokens steps even where the answer ends before, so a loose bound costs time in every
    request.
    """
    if not references:
        raise ConfigError("workload.reference_column=null leaves nothing to bound answers by: set workload.max_tokens")
    return math.ceil(max(token_counts(references, model, cache_folder)) * _ANSWER_MARGIN)


def token_counts(texts: Sequence[str], model: str, cache_folder: Path) -> list[int]:
    """Number of the model's tokens in each text, kept in the cache.

    Raises:
        ConfigError: the model has no tokenizer file on this disk.
    """
    remedy = "workload.max_tokens is not set and cannot be derived from the references: set workload.max_tokens"
    key = hashlib.sha256(_tokenizer_json(model, remedy) + json.dumps(list(texts)).encode()).hexdigest()[:16]
    path = claim(cache_folder / "tokens" / key) / "counts.json"
    if (kept := read_kept(path)) is not None:
        return [int(n) for n in kept]
    counts = [len(encoded.ids) for encoded in _tokenizer(model, remedy).encode_batch(list(texts))]
    write_atomically(path, json.dumps(counts))
    return counts


def _tokenizer(model: str, remedy: str) -> Tokenizer:
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
