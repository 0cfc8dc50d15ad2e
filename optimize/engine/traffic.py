"""What a server of vLLM's says of its traffic: lengths, latencies and cached prefixes, as its metrics add them up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

HISTOGRAMS = {
    "vllm:request_prompt_tokens": "prompt_tokens",
    "vllm:request_generation_tokens": "output_tokens",
    "vllm:time_to_first_token_seconds": "ttft_s",
    "vllm:request_time_per_output_token_seconds": "tpot_s",
    "vllm:e2e_request_latency_seconds": "latency_s",
}
"""vLLM's histogram of requests -> the quantity by its name in `objectives.RequestRecord`."""
COUNTERS = {
    "vllm:prefix_cache_queries_total": "prefix_cache_queries",
    "vllm:prefix_cache_hits_total": "prefix_cache_hits",
}
"""vLLM's counter of tokens -> its name here."""
PREFIXES = (*HISTOGRAMS, *COUNTERS)
_BUCKET, _SUM = "_bucket", "_sum"


@dataclass(frozen=True)
class Histogram:
    """Requests by one quantity.

    Attributes:
        below: Upper edge of a bucket -> number of requests at most so large; the last edge is infinite.
        total: The quantity, summed up over all of them.
    """

    below: Mapping[float, float] = field(default_factory=dict)
    total: float = 0.0

    @property
    def n(self) -> float:
        return max(self.below.values(), default=0.0)

    @property
    def mean(self) -> float:
        """Not a number where there was no request."""
        return self.total / self.n if self.n else math.nan

    def above(self, edge: float) -> float:
        """Number of requests larger than the edge of a bucket."""
        return self.n - self.below.get(edge, self.n)

    def minus(self, other: Histogram) -> Histogram:
        below = {edge: n - other.below.get(edge, 0.0) for edge, n in self.below.items()}
        return Histogram(below, self.total - other.total)

    def plus(self, other: Histogram) -> Histogram:
        edges = {**self.below, **other.below}
        below = {edge: self.below.get(edge, 0.0) + other.below.get(edge, 0.0) for edge in edges}
        return Histogram(below, self.total + other.total)


@dataclass(frozen=True)
class Traffic:
    """What servers have seen, since their start or within a time.

    Attributes:
        at: Unix time of its end.
        histograms: Quantity -> requests by it.
        counters: Counter -> its value.
        seconds: Length of the time; not a number where it is since a start that is not known.
        servers: Number of servers that were added up.
    """

    at: float
    histograms: Mapping[str, Histogram]
    counters: Mapping[str, float]
    seconds: float = math.nan
    servers: int = 1

    @property
    def requests(self) -> float:
        return max((h.n for h in self.histograms.values()), default=0.0)

    def since(self, earlier: Traffic) -> Traffic:
        """What came between two readings of one server; all of the later one where it has restarted in between."""
        seconds = self.at - earlier.at
        if self._restarted(earlier):
            return Traffic(self.at, self.histograms, self.counters, seconds)
        histograms = {k: h.minus(earlier.histograms.get(k, Histogram())) for k, h in self.histograms.items()}
        counters = {k: v - earlier.counters.get(k, 0.0) for k, v in self.counters.items()}
        return Traffic(self.at, histograms, counters, seconds)

    def _restarted(self, earlier: Traffic) -> bool:
        fewer = (h.n < earlier.histograms[k].n for k, h in self.histograms.items() if k in earlier.histograms)
        return any(fewer) or any(v < earlier.counters.get(k, 0.0) for k, v in self.counters.items())

    def plus(self, other: Traffic) -> Traffic:
        """The traffic of two servers within the same time."""
        histograms = {
            k: self.histograms.get(k, Histogram()).plus(other.histograms.get(k, Histogram()))
            for k in {**self.histograms, **other.histograms}
        }
        counters = {
            k: self.counters.get(k, 0.0) + other.counters.get(k, 0.0) for k in {**self.counters, **other.counters}
        }
        return Traffic(self.at, histograms, counters, self.seconds, self.servers + other.servers)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinite number: edges are texts, as Prometheus writes them."""
        histograms = {
            name: {"below": {f"{edge:g}": n for edge, n in h.below.items()}, "total": h.total}
            for name, h in self.histograms.items()
        }
        return {"at": self.at, "histograms": histograms, "counters": dict(self.counters)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Traffic:
        """Read what `to_dict` made.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: it is something else.
        """
        histograms = {
            str(name): Histogram({float(edge): float(n) for edge, n in h["below"].items()}, float(h["total"]))
            for name, h in raw["histograms"].items()
        }
        return cls(float(raw["at"]), histograms, {str(k): float(v) for k, v in raw["counters"].items()})


def record_files(folder: Path) -> list[Path]:
    """The files in which readings of a server are kept, the older first: a line of JSON for each."""
    return [folder / "traffic.1.jsonl", folder / "traffic.jsonl"]


def parse_traffic(text: str, at: float) -> Traffic:
    """The traffic in a Prometheus exposition of vLLM's, added up over its engines; empty where it has none.

    Raises:
        ValueError: a line is no metric.
    """
    # The parser is slow and the exposition long, so it gets only these lines.
    lines = "\n".join(line for line in text.splitlines() if line.startswith(PREFIXES))
    samples = [s for family in text_string_to_metric_families(f"{lines}\n") for s in family.samples]
    return traffic_of(((s.name, s.labels.get("le", ""), s.value) for s in samples), at)


def traffic_of(samples: Iterable[tuple[str, str, float]], at: float) -> Traffic:
    """Traffic from samples: (name of the series, its label `le`, value); those of other names are passed over."""
    below: dict[str, dict[float, float]] = {}
    totals: dict[str, float] = {}
    counters: dict[str, float] = {}
    for name, edge, value in samples:
        if name in COUNTERS:
            counters[COUNTERS[name]] = counters.get(COUNTERS[name], 0.0) + value
        elif (quantity := HISTOGRAMS.get(name.removesuffix(_BUCKET))) and edge:
            buckets = below.setdefault(quantity, {})
            buckets[float(edge)] = buckets.get(float(edge), 0.0) + value
        elif quantity := HISTOGRAMS.get(name.removesuffix(_SUM)):
            totals[quantity] = totals.get(quantity, 0.0) + value
    histograms = {name: Histogram(dict(sorted(b.items())), totals.get(name, 0.0)) for name, b in below.items()}
    return Traffic(at, histograms, counters)
