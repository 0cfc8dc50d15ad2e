"""Recorded requests by columns: when each came, how long its prompt and its answer were, and what it shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Text = str | list[dict[str, Any]]
_COLUMNS = ("offsets_s", "prompt_tokens", "output_tokens", "sessions", "blocks", "texts")


@dataclass(frozen=True)
class Requests:
    """Requests in the order of time. Columns have one entry per request; those that were not recorded are None.

    Attributes:
        offsets_s: When each came, in seconds from an origin of its own.
        prompt_tokens: Tokens of each prompt.
        output_tokens: Tokens of each answer.
        sessions: The conversation or the user that each belongs to; None within for a request of its own.
        blocks: The blocks of text that each prompt consists of: prompts share those of the same number.
        block_tokens: Tokens of a block.
        texts: The prompts themselves, as text or as chat messages.
    """

    offsets_s: Floats
    prompt_tokens: Ints | None = None
    output_tokens: Ints | None = None
    sessions: Sequence[str | None] | None = None
    blocks: Sequence[tuple[int, ...]] | None = None
    block_tokens: int = 512
    texts: Sequence[Text] | None = None

    def __len__(self) -> int:
        return len(self.offsets_s)

    def only(self, rows: Ints) -> Requests:
        """These requests alone, in this order."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return replace(self, **{name: _rows_of(column, rows) for name, column in columns.items() if column is not None})

    @property
    def span_s(self) -> float:
        """From the first request to the last, plus the mean gap."""
        if len(self) < 2:
            return 0.0
        return float(self.offsets_s[-1] - self.offsets_s[0]) * len(self) / (len(self) - 1)


def _rows_of(column: Any, rows: Ints) -> Any:
    return column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]


def lengths_of(requests: Requests) -> list[tuple[int | None, int | None]]:
    """(prompt tokens, output tokens) of each request, None where they were not recorded."""
    return list(
        zip(_or_none(requests.prompt_tokens, requests), _or_none(requests.output_tokens, requests), strict=True)
    )


def _or_none(column: Ints | None, requests: Requests) -> Sequence[int | None]:
    numbers: list[int | None] = [None] * len(requests) if column is None else column.tolist()
    return numbers
