"""Schema of `python -m optimize.whatif`."""

from __future__ import annotations

from dataclasses import dataclass, field

from optimize.config.bounds import bounded


@dataclass
class WhatIf:
    """What `python -m optimize.whatif` asks beside other limits, weights, objectives and hardware.

    Attributes:
        prompts: Rows of the workload whose requests count for latencies and errors; none counts all.
        prompt_tokens_min: Length of the shortest prompt that counts.
        prompt_tokens_max: Length of the longest prompt that counts.
        sure: Probability of a pick from which nothing more is proposed to be measured.
    """

    prompts: list[int] = field(default_factory=list)
    prompt_tokens_min: int | None = bounded(None, least=0)
    prompt_tokens_max: int | None = bounded(None, least=1)
    sure: float = bounded(0.95, above=0, below=1)
