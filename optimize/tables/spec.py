"""Which tables there are: their knobs, their columns, and what folklore says about them. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimize.config.schema import Tables
from optimize.errors import ConfigError

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """What people say of a figure.

    Attributes:
        says: In words.
        metric: The figure.
        rises: Whether it is said to rise, or to fall, against the first row.
        steps: Whether it is said of every step from one row to the next, rather than of every row against the first.
    """

    says: str
    metric: str
    rises: bool
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Gain:
    """What people say of two knobs: that one does more for a figure the further the other is turned.

    Attributes:
        says: In words.
        metric: The figure.
        rises: Whether the second knob is said to raise the figure more, or less, with the first one turned.
    """

    says: str
    metric: str
    rises: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One grid of a table.

    Attributes:
        knobs: Its one or two knobs.
        claims: What folklore says of them.
        gain: What it says of the two together.
    """

    knobs: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    gain: Gain | None = None

    def points(self, values: Mapping[str, Sequence[Any]]) -> list[Point]:
        """The grid, the last knob changing fastest."""
        product = itertools.product(*(values[knob] for knob in self.knobs))
        return [dict(zip(self.knobs, point, strict=True)) for point in product]


@dataclass(frozen=True, slots=True)
class Spec:
    """One table.

    Attributes:
        title: Its heading.
        parts: Its grids.
        columns: Metric -> heading, in order; those that a study does not have are left out.
        metrics: `_target_` of metrics that a study may lack.
    """

    title: str
    parts: tuple[Part, ...]
    columns: Mapping[str, str]
    metrics: Mapping[str, str]

    @property
    def knobs(self) -> tuple[str, ...]:
        return tuple(knob for part in self.parts for knob in part.knobs)


_QUALITY = {"bleu": "BLEU", "chrf": "chrF", "exact_match": "exact match"}
_MEMORY = {
    "weight_memory_bytes": "weights",
    "kv_memory_bytes": "KV cache at its peak",
    "activation_memory_bytes": "activations at their peak",
    "memory_bytes": "memory in all",
}
_PERPLEXITY = {"perplexity": "objectives.quality.Perplexity"}

SPECS: dict[str, Spec] = {
    "quantization": Spec(
        "Effect of quantization",
        (
            Part(
                ("quantization",),
                (
                    Claim("Lower precision serves more requests per second", "qps", True),
                    Claim("Lower precision shows its first token sooner", "ttft_p50_s", False),
                    Claim("Lower precision needs less memory", "memory_bytes", False),
                    Claim("Lower precision keeps the processor less busy", "cpu_cores", False),
                    Claim("Lower precision finds the references less likely", "perplexity", True),
                    Claim("Lower precision answers worse", "bleu", False),
                ),
            ),
        ),
        {
            **_MEMORY, "ttft_p50_s": "time to first token (median)", "qps": "QPS", "cpu_cores": "CPU use",
            "perplexity": "perplexity of the references", **_QUALITY,
        },
        _PERPLEXITY,
    ),
    "batch_size": Spec(
        "Effect of batch_size",
        (
            Part(
                ("batch_size",),
                (
                    Claim("Larger batches serve more requests per second", "qps", True),
                    Claim("Larger batches lower P99", "p99_latency_s", False),
                    Claim("Smaller batches show the first token sooner", "ttft_p50_s", True),
                    Claim("Larger batches need more memory", "memory_bytes", True),
                ),
            ),
        ),
        {
            "qps": "QPS", "p50_latency_s": "median latency", "p99_latency_s": "P99 latency",
            "ttft_p50_s": "time to first token (median)", **_MEMORY,
            "process_memory_bytes": "engine's processes in all", "cpu_cores": "CPU use",
        },
        {},
    ),
    "beam_size": Spec(
        "Effect of beam_size",
        (
            Part(
                ("beam_size",),
                (
                    Claim("More beams always answer better", "bleu", True, steps=True),
                    Claim("More beams take longer", "p50_latency_s", True, steps=True),
                ),
            ),
        ),
        {
            **_QUALITY, "p50_latency_s": "median latency", "p99_latency_s": "P99 latency", "qps": "QPS",
            "memory_bytes": "memory in all",
        },
        {},
    ),
    "interactions": Spec(
        "How knobs interact",
        (
            Part(
                ("quantization", "batch_size"),
                gain=Gain("Low precision needs larger batches to pay off", "qps", True),
            ),
            Part(
                ("beam_size", "workers"),
                gain=Gain("More workers help the more, the more beams there are", "qps", True),
            ),
        ),
        {},
        {},
    ),
}  # fmt: skip


def values_of(spec: Spec, tables: Tables, fixed: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Knob of the table -> its values.

    Args:
        spec: The table.
        tables: Where the values stand.
        fixed: Knobs that are held at one value (`at`).

    Raises:
        ConfigError: fewer than two values of a knob, one of them twice, or a knob that is also held fixed.
    """
    found: dict[str, list[Any]] = {}
    for knob in spec.knobs:
        values = list(getattr(tables, knob))
        if knob in fixed:
            raise ConfigError(f"at.{knob} is what this table varies: give its values as tables.{knob}=[...]")
        if len(values) < 2:
            raise ConfigError(f"tables.{knob}={values} leaves nothing to compare: give at least two values")
        for value in values:
            if isinstance(value, list | dict) or values.count(value) > 1:
                raise ConfigError(f"tables.{knob} must hold plain values, each once, got {value!r} in {values}")
        found[knob] = values
    return found
