"""Settings that this repository has measured to be better than vLLM's defaults, by the class of the machine.

Only what `docs/results` shows, with its source: a search starts from them where no earlier study resembles it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimize.search.knobs import QUANTIZATION

_SCHEDULER_CORE = "env.VLLM_CPU_NUM_OF_RESERVED_CPU"


@dataclass(frozen=True, slots=True)
class MeasuredDefault:
    """Settings that beat vLLM's defaults in a study of this repository.

    Attributes:
        instructions: The widest instruction set of its processors, as `optimize.hardware.machine` names it.
        settings: Knob -> value; all others are at vLLM's defaults.
        gain: What was gained, and in which study.
        source: The page of `docs/results` that shows it.
    """

    instructions: str
    settings: Mapping[str, Any]
    gain: str
    source: str


MEASURED = (
    MeasuredDefault(
        "AVX-512 BF16", {QUANTIZATION: "int8"},
        "chat, 135 M parameters: throughput 1.34 times (1.18 to 1.51), memory 0.764 times (0.758 to 0.769)", "smollm2",
    ),
    MeasuredDefault(
        "AVX-512 BF16", {_SCHEDULER_CORE: 0},
        "bulk, 135 M parameters: throughput 1.36 times (1.06 to 1.74)", "smollm2",
    ),
    MeasuredDefault(
        "AVX-512 BF16", {QUANTIZATION: "int4"},
        "abtest, 3.3 M parameters: memory 2.71 times less (2.55 to 2.88)", "demo",
    ),
    MeasuredDefault(
        "AVX2", {QUANTIZATION: "fp32"},
        "chat, 3.3 M parameters: 17 to 22 requests per second, where float16 read 12 to 15", "race",
    ),
)  # fmt: skip


def settings_for(machine: str) -> list[Mapping[str, Any]]:
    """Settings to try on a machine, given its line; none where it has a GPU, on which nothing was measured."""
    if ";" in machine:
        return []
    return [entry.settings for entry in MEASURED if f"{entry.instructions})" in machine]
