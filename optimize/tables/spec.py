"""The tables: their knobs, their columns, and the claims of folklore about them. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimize.config.tables import Tables
from optimize.errors import ConfigError

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A common claim about one figure.

    Attributes:
        says: The claim, as a sentence.
        metric: The figure.
        rises: Whether the figure is claimed to rise, or to fall, against the first row.
        steps: Whether the claim is about every step from one row to the next, rather than every row against the first.
        exempt: Values of the knob that the claim says nothing of.
        own_answers: Whether the model's own greedy answers are references for it. They are none for ways of decoding:
            answers that differ from greedy ones are other answers, and not worse ones.
    """

    says: str
    metric: str
    rises: bool
    steps: bool = False
    exempt: tuple[str, ...] = ()
    own_answers: bool = True


@dataclass(frozen=True, slots=True)
class Gain:
    """A common claim about two knobs: the effect of one on a figure grows with the other.

    Attributes:
        says: The claim, as a sentence.
        metric: The figure.
        rises: Whether the second knob is claimed to raise the figure more, or less, as the first one changes.
    """

    says: str
    metric: str
    rises: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One grid of a table.

    Attributes:
        knobs: Its one or two knobs.
        claims: Claims about them.
        gain: Claim about the two together.
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
        columns: Metric -> heading, in order; metrics that the study lacks are left out.
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
    "kv_memory_bytes": "KV cache, peak",
    "activation_memory_bytes": "activations, peak",
    "memory_bytes": "memory, total",
}
_WIDER = ("fp32",)
_PERPLEXITY = {"perplexity": "objectives.quality.Perplexity"}

SPECS: dict[str, Spec] = {
    "quantization": Spec(
        "Effect of quantization",
        (
            Part(
                ("quantization",),
                (
                    Claim("Lower precision serves more requests per second", "qps", True, exempt=_WIDER),
                    Claim("Lower precision raises the capacity within the SLO", "capacity_per_s", True, exempt=_WIDER),
                    Claim("Lower precision shortens the time to first token", "ttft_p50_s", False, exempt=_WIDER),
                    Claim("Lower precision needs less memory", "memory_bytes", False, exempt=_WIDER),
                    Claim("Lower precision lowers the CPU use", "cpu_cores", False, exempt=_WIDER),
                    Claim("Lower precision raises the perplexity of the references", "perplexity", True, exempt=_WIDER),
                    Claim("Lower precision lowers the quality of answers", "bleu", False, exempt=_WIDER),
                ),
            ),
        ),
        {
            "capacity_per_s": "capacity", "capacity_users": "capacity", **_MEMORY,
            "ttft_p50_s": "time to first token (median)", "qps": "QPS", "cpu_cores": "CPU use",
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
                    Claim("Smaller batches shorten the time to first token", "ttft_p50_s", True),
                    Claim("Larger batches need more memory", "memory_bytes", True),
                    Claim("Larger batches raise the capacity within the SLO", "capacity_per_s", True),
                ),
            ),
        ),
        {
            "capacity_per_s": "capacity", "capacity_users": "capacity", "qps": "QPS", "p50_latency_s": "median latency",
            "p99_latency_s": "P99 latency", "ttft_p50_s": "time to first token (median)", **_MEMORY,
            "process_memory_bytes": "memory of all engine processes", "cpu_cores": "CPU use",
        },
        {},
    ),
    "beam_size": Spec(
        "Effect of beam_size",
        (
            Part(
                ("beam_size",),
                (
                    Claim("More beams always improve the answers", "bleu", True, steps=True, own_answers=False),
                    Claim("More beams take longer", "p50_latency_s", True, steps=True),
                ),
            ),
        ),
        {
            **_QUALITY, "p50_latency_s": "median latency", "p99_latency_s": "P99 latency", "qps": "QPS",
            "memory_bytes": "memory, total",
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
                gain=Gain("More workers help more with more beams", "qps", True),
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
        tables: Settings that hold the values.
        fixed: Knobs held at one value (`at`).

    Raises:
        ConfigError: a knob that is also held fixed.
    """
    levels: dict[str, list[Any]] = {}
    for knob in spec.knobs:
        if knob in fixed:
            raise ConfigError(f"at.{knob} is what this table varies: give its values as tables.{knob}=[...]")
        levels[knob] = list(getattr(tables, knob))
    return levels
