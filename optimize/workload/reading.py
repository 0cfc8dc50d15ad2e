"""From a workload's source to examples, and what was taken for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from optimize.config.measuring import WorkloadSource
from optimize.errors import ConfigError
from optimize.workload.cells import REPLACEMENT, limit_of
from optimize.workload.example import BadCell, Example, Row
from optimize.workload.hub import hub_rows
from optimize.workload.messages import text_within
from optimize.workload.paths import files_of
from optimize.workload.recognition import Recognition, cell_of, recognize
from optimize.workload.rows import rows_of

_SAMPLE = 20
_MOST_UNSCORED = 0.1
"""Share of the rows that may lack an answer and are left out for it; with more, no answer is taken as a reference."""


@dataclass(frozen=True)
class Reading:
    """What a source holds.

    Attributes:
        examples: What is sent: all with a reference, or none.
        note: What was taken for what, in a sentence; empty where settings or names say it.
    """

    examples: Sequence[Example]
    note: str = ""


def read(source: WorkloadSource, cache_folder: Path) -> Reading:
    """Read a source, no further than its limit.

    Args:
        source: The source.
        cache_folder: Root of the cache.

    Raises:
        ConfigError: it cannot be read, no form or several fit its rows, or a row is not of its form.
    """
    files = files_of(source.paths)
    rows = rows_of(files, source.encoding) if files else hub_rows(source, cache_folder / "datasets")
    sample = list(islice(rows, _SAMPLE))
    if not sample:
        raise ConfigError(f"workload.path={source.where} is empty or has no rows: give at least one with a prompt")
    recognition = recognize([row.cells for row in sample], source)
    counts = _Counts()
    examples = list(islice(_examples(chain(sample, rows), recognition, source, counts), source.limit))
    if not examples:
        raise ConfigError(f"workload.path={source.where} has no rows that ask anything: give prompts")
    examples = _scored(examples, counts)
    where = f"{source.where} ({len(files)} files)" if len(files) > 1 else source.where
    return Reading(examples, _note(source, where, recognition, examples[0].reference is not None, counts))


@dataclass
class _Counts:
    """Rows that ask something, and those that ask nothing.

    Of the first, those without an answer, whether all answers are empty, and those with U+FFFD.
    """

    questions: int = 0
    unasked: int = 0
    unscored: int = 0
    empty: bool = False
    damaged: int = 0


def _examples(
    rows: Iterator[Row], recognition: Recognition, source: WorkloadSource, counts: _Counts
) -> Iterator[Example]:
    for row in rows:
        try:
            example = recognition.form.read(row.cells)
            if example is not None:
                example = _with_settings(example, row, source)
        except BadCell as error:
            raise ConfigError(f"workload {row.place}: {error}") from error
        if example is None:
            counts.unasked += 1
        else:
            yield example


def _with_settings(example: Example, row: Row, source: WorkloadSource) -> Example:
    """The example without a reference, or with the bound of a column, where the settings say so.

    Raises:
        BadCell: the column holds no bound.
    """
    if source.reference_column is None:
        example = replace(example, reference=None)
    if source.max_tokens_column is None:
        return example
    limit = limit_of(cell_of(row.cells, source.max_tokens_column), source.max_tokens_column)
    return replace(example, max_tokens=limit)


def _scored(examples: list[Example], counts: _Counts) -> list[Example]:
    """The examples with a reference where few lack one; else all, without."""
    with_answer = [example for example in examples if example.reference is not None]
    counts.questions, counts.unscored = len(examples), len(examples) - len(with_answer)
    counts.damaged = sum(map(_is_damaged, examples))
    if with_answer and not any(example.reference for example in with_answer):
        counts.empty = True
    elif counts.unscored <= _MOST_UNSCORED * len(examples):
        return with_answer
    return [replace(example, reference=None) for example in examples] if with_answer else examples


def _is_damaged(example: Example) -> bool:
    prompt = example.prompt
    texts = [prompt] if isinstance(prompt, str) else [text_within(message["content"]) for message in prompt]
    return any(REPLACEMENT in text for text in (*texts, example.reference) if text)


def _note(source: WorkloadSource, where: str, recognition: Recognition, scored: bool, counts: _Counts) -> str:
    """What was taken for what; empty where settings and names say all of it."""
    form, column = recognition.form, source.reference_column
    parts = [f"{where}: {counts.questions} {form.title} ({', '.join(recognition.columns)})"]
    if scored:
        parts += [] if recognition.complete else [f"{form.answer} is the reference"]
        parts += _left_out(counts.unscored, "an answer")
    elif recognition.named and not recognition.complete:
        parts = [
            f"{where} has no column {column!r} and is taken as prompts alone (workload.reference_column names another)"
        ]
    elif counts.empty:
        parts += ["its answers are all empty, so that nothing is scored against them"]
    elif counts.unscored < counts.questions:
        parts += [f"{counts.unscored} rows have no answer, so none of the answers is taken as a reference"]
    elif column is not None:
        parts += ["without answers to score against"]
    parts += _left_out(counts.unasked, "a question")
    parts += [f"{counts.damaged} with U+FFFD, which stands for half a character"] if counts.damaged else []
    silent = recognition.complete and len(parts) == 1
    return "" if silent else f"workload {source.name}: {'; '.join(parts)}"


def _left_out(rows: int, what: str) -> list[str]:
    return [f"{rows} {'row' if rows == 1 else 'rows'} without {what} left out"] if rows else []
