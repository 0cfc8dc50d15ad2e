"""One row of a workload: where it stands in its file, and what is sent and scored of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Message = dict[str, Any]
Prompt = str | list[Message]


class Row(NamedTuple):
    """A row as its file has it.

    Attributes:
        file: Name of the file, or of the data set.
        unit: What its rows are counted in: "line" of a text, or "row".
        number: Number of the row, or of its first line, from 1.
        cells: Column -> value.
    """

    file: str
    unit: str
    number: int
    cells: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Where the row stands, as the beginning of a message."""
        return f"{self.file}, {self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Example:
    """What is sent and scored of a row.

    Attributes:
        prompt: Text, or the messages up to the last answer.
        reference: The answer to score against; None without one.
        max_tokens: Bound on the answer; None where the row has none.
        messages: All messages of a row that is a conversation, its answers included; None of any other row.
        fields: Further fields of the request's body, such as `tools`.
    """

    prompt: Prompt
    reference: str | None = None
    max_tokens: int | None = None
    messages: Sequence[Message] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


class BadCell(ValueError):
    """A cell that cannot be what its column says; the message is to be put after the row's place."""
