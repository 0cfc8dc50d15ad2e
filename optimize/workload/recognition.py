"""Which form the rows of a source are of: the one that its settings name, or the only one that fits its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from optimize.config.measuring import AUTO, PROMPT_COLUMN, REFERENCE_COLUMN, WorkloadSource
from optimize.errors import ConfigError, closest
from optimize.workload.example import Example
from optimize.workload.forms import FORMS, Cells, Form, question, reference_of, texts

_OWN, _LAST_CHOICE = "prompts", "text"
_TIMES, _TRACE = {"timestamp", "offset_s"}, "; when requests arrive is told by load=trace load.arrivals.path=..."


@dataclass(frozen=True)
class Recognition:
    """How the rows of a source are read.

    Attributes:
        form: Their form.
        columns: The columns that it uses, in their order.
        named: Whether settings name these columns, or they have the names that this project gives them.
        complete: Whether the names say where the references come from, too.
    """

    form: Form
    columns: Sequence[str]
    named: bool = False
    complete: bool = False


def recognize(sample: Sequence[Cells], source: WorkloadSource) -> Recognition:
    """The form of a source.

    Args:
        sample: Its first rows.
        source: Its settings.

    Raises:
        ConfigError: a column that is named is missing, or no form fits, or more than one.
    """
    columns = list(dict.fromkeys(name for cells in sample for name in cells))
    for name in filter(None, [source.max_tokens_column]):
        _require("max_tokens_column", name, sample, source)
    if _names_columns(source, columns):
        return _own(sample, columns, source)
    fits = _fits(sample, source.format)
    if len(fits) > 1:
        readings = " or ".join(f"{f.title} ({f.setting or f'workload.format={f.name}'})" for f in fits.values())
        raise ConfigError(f"workload.path={source.where} can be read as {readings}: set which")
    if not fits:
        return _only_text(sample, columns, source)
    (claims, form), *_ = fits.items()
    if form.name == _OWN:
        return _own(sample, columns, source)
    used = [name for name in columns if name in claims]
    reference = source.reference_column
    if reference is None or reference in claims or reference not in columns:
        return Recognition(form, used)
    return Recognition(_with_reference(form, reference), [*used, reference])


def _names_columns(source: WorkloadSource, columns: Sequence[str]) -> bool:
    named = source.prompt_column != PROMPT_COLUMN or source.reference_column not in (REFERENCE_COLUMN, None)
    usual = source.format == AUTO and {PROMPT_COLUMN, REFERENCE_COLUMN} <= set(columns)
    return named or usual or source.format == _OWN


def _fits(sample: Sequence[Cells], name: str) -> dict[frozenset[str], Form]:
    """Columns -> the form that uses them, of all forms but those that use a part of another's columns alone."""
    fits: dict[frozenset[str], Form] = {}
    for form in FORMS:
        if name in (AUTO, form.name) and (claims := next(filter(None, map(form.claims, sample)), None)):
            fits.setdefault(claims, form)
    whole = {claims: form for claims, form in fits.items() if not any(claims < others for others in fits)}
    return {c: f for c, f in whole.items() if f.name != _LAST_CHOICE or len(whole) == 1}


def _with_reference(form: Form, column: str) -> Form:
    """A form whose answers stand in a column beside it."""

    def read(cells: Cells) -> Example | None:
        example = form.read(cells)
        return example and replace(example, reference=reference_of(cell_of(cells, column), column))

    return replace(form, read=read, answer=repr(column))


def _own(sample: Sequence[Cells], columns: Sequence[str], source: WorkloadSource) -> Recognition:
    """The form of rows whose columns are named."""
    prompt, reference = source.prompt_column, source.reference_column
    _require("prompt_column", prompt, sample, source)
    if reference is not None and not _has(sample, reference):
        if reference != REFERENCE_COLUMN or get_close_matches(reference, columns):
            _require("reference_column", reference, sample, source)
        reference = None

    def read(cells: Cells) -> Example | None:
        beside, column = place_of(cells, prompt)
        return question(beside.get(column), column, beside)

    form = Form(_OWN, "prompts", lambda cells: frozenset(), read)
    form = _with_reference(form, reference) if reference else form
    return Recognition(form, [name for name in (prompt, reference) if name], True, reference == source.reference_column)


def _only_text(sample: Sequence[Cells], columns: Sequence[str], source: WorkloadSource) -> Recognition:
    """The form of rows of one column, whatever its name."""
    if source.format != AUTO:
        raise ConfigError(
            f"workload.format={source.format} does not fit {source.where}, whose columns are {', '.join(columns)}: "
            "workload.format=auto recognizes the form, workload.prompt_column names the prompts"
        )
    if len(columns) != 1 or columns[0] == source.reference_column or not _is_prose(sample, columns[0]):
        forms = ", ".join(dict.fromkeys(form.name for form in FORMS))
        raise ConfigError(
            f"workload.prompt_column={source.prompt_column!r} is not a column of {source.where} "
            f"({closest(source.prompt_column, columns)}), and its columns are of no known form ({forms}): set "
            "workload.prompt_column and workload.reference_column to those of the prompts and the answers"
            f"{_TRACE if _TIMES & {name.lower() for name in columns} else ''}"
        )
    return Recognition(texts(_LAST_CHOICE, "texts", columns[0]), columns)


def _is_prose(sample: Sequence[Cells], column: str) -> bool:
    values = [cells[column] for cells in sample]
    return all(isinstance(value, str) for value in values) and any(" " in value for value in values)


def _require(key: str, name: str, sample: Sequence[Cells], source: WorkloadSource) -> None:
    if not _has(sample, name):
        columns = {column for cells in sample for column in cells}
        raise ConfigError(f"workload.{key}={name!r} is not a column of {source.where}; {closest(name, columns)}")


def _has(sample: Sequence[Cells], column: str) -> bool:
    return any(name in beside for beside, name in (place_of(cells, column) for cells in sample))


def place_of(cells: Cells, column: str) -> tuple[Cells, str]:
    """Where a column stands, of which a dotted name tells the way into objects: the object, and its name in there."""
    while column not in cells:
        outer, _, inner = column.partition(".")
        if not isinstance(cells.get(outer), Mapping):
            break
        cells, column = cells[outer], inner
    return cells, column


def cell_of(cells: Cells, column: str) -> Any:
    """The value of a column, or of a dotted name; None where the row has none."""
    beside, name = place_of(cells, column)
    return beside.get(name)
