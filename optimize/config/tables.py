"""Schema of the tables of single knobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tables:
    """Values of each knob in `python -m optimize.tables`; the others are compared with the first.

    Attributes:
        quantization: Names of recipes.
        batch_size: Most sequences in a batch.
        beam_size: Beams of each request.
        workers: Front-end processes.
        into: Markdown file whose table of the same title is replaced; null for none.
        again: Study of an earlier table, whose stored measurements are scored and shown again; null measures.
    """

    quantization: list[Any] = field(default_factory=lambda: ["published", "int8", "int4"])
    batch_size: list[Any] = field(default_factory=lambda: [16, 32, 64, 128])
    beam_size: list[Any] = field(default_factory=lambda: [1, 2, 4, 8])
    workers: list[Any] = field(default_factory=lambda: [1, 2])
    into: str | None = None
    again: str | None = None
