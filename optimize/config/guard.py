"""Schema of `python -m optimize.guard`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from optimize.config.bounds import bounded, positive

ROW, STORED = "row", "stored"
"""What the other side is compared with."""


@dataclass
class ReleaseGuard:
    """The other side of `python -m optimize.guard`, and how much worse than the row it may be.

    Without any of `python`, `model`, `flags`, `env` and `overrides`, both sides are the same.

    Attributes:
        against: "row" measures the row on both sides, in rounds; "stored" measures the other side alone, and compares
            it with the figures that the study has stored.
        python: Interpreter of the environment that has the other side's vLLM; null for this one.
        model: Folder or Hugging Face id of the checkpoint that the other side serves, as it is; null for the row's.
        flags: vLLM flags of the other side, beside the row's or in their place.
        env: Environment variables of the other side.
        overrides: Words of a command line that hold for the other side alone, e.g. `["engine.niceness=10"]`.
        margin: Share by which each objective may be worse.
        margins: Objective -> a margin of its own.
        minutes: Time for the rounds; none begins that would end later. Three rounds are measured in any case.
    """

    against: str = bounded(ROW, choices=(ROW, STORED))
    python: str | None = None
    model: str | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    margin: float = bounded(0.05, above=0, below=1, reason="it is a share, e.g. 0.05")
    margins: dict[str, float] = bounded({}, above=0, below=1, reason="it is a share, e.g. 0.05")
    minutes: float = positive(20.0)
