"""Made-up traffic of a server, for tests and simulations of what watches it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from objectives import Estimate, RequestRecord
from optimize.drift.reference import Reference
from optimize.engine.traffic import Histogram, Traffic

Floats = np.ndarray[Any, np.dtype[Any]]
TOKEN_EDGES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
TIME_EDGES = {
    "ttft_s": (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0),
    "tpot_s": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    "latency_s": (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0),
}
"""The first buckets of vLLM's histograms."""
_SPREAD = {"prompt_tokens": 0.8, "output_tokens": 0.6, "ttft_s": 0.3, "tpot_s": 0.1, "latency_s": 0.5}
"""Standard deviation of each quantity's logarithm."""
_CACHED_SPREAD = 0.1


@dataclass(frozen=True)
class TrafficModel:
    """The kind of traffic: lognormal lengths and times, Poisson arrivals.

    Attributes:
        medians: Quantity -> its median.
        rate_per_s: Requests per second at the busiest time.
        cached: Share of the prompts' tokens that is found in the cache.
        together: Requests that come together, and are alike.
    """

    medians: Mapping[str, float] = field(
        default_factory=lambda: {
            "prompt_tokens": 120.0, "output_tokens": 80.0, "ttft_s": 0.05, "tpot_s": 0.02, "latency_s": 1.6,
        }
    )  # fmt: skip
    rate_per_s: float = 2.0
    cached: float = 0.3
    together: int = 1

    def times(self, **factors: float) -> TrafficModel:
        """The same with some of the medians, `rate_per_s` or `cached` multiplied."""
        medians = {name: value * factors.get(name, 1.0) for name, value in self.medians.items()}
        rate, cached = self.rate_per_s * factors.get("rate_per_s", 1.0), self.cached * factors.get("cached", 1.0)
        return replace(self, medians=medians, rate_per_s=rate, cached=cached)


def daily(at: float) -> float:
    """Share of the busiest rate at a time of the day: a fifth at night, all of it at noon."""
    return 0.6 - 0.4 * math.cos(2 * math.pi * at / 86400)


def readings(
    kind: TrafficModel, minutes: int, rng: np.random.Generator, begin: int = 0, cycle: Callable[[float], float] = daily
) -> Iterator[Traffic]:
    """What a server sees, minute by minute.

    Args:
        kind: The traffic.
        minutes: Number of readings.
        rng: Source of chance.
        begin: Minute of the first.
        cycle: Share of the rate at a time.
    """
    shares = {name: _shares(kind, name) for name in kind.medians}
    for minute in range(begin, begin + minutes):
        at = 60.0 * (minute + 1)
        groups = int(rng.poisson(60 * kind.rate_per_s * cycle(at) / kind.together))
        yield _reading(kind, shares, groups, at, rng)


def _shares(kind: TrafficModel, name: str) -> Floats:
    """Share of the requests in each bucket of a quantity, shape (buckets,)."""
    ends = [NormalDist().cdf(math.log(edge / kind.medians[name]) / _SPREAD[name]) for edge in _edges(name)]
    return np.diff(np.array([0.0, *ends, 1.0]))


def _edges(name: str) -> Sequence[float]:
    return TIME_EDGES.get(name, TOKEN_EDGES)


def _reading(
    kind: TrafficModel, shares: Mapping[str, Floats], groups: int, at: float, rng: np.random.Generator
) -> Traffic:  # fmt: skip
    histograms = {name: _histogram(kind, name, groups, rng.multinomial(groups, shares[name]), rng) for name in shares}
    queries = histograms["prompt_tokens"].total
    hits = queries * min(1.0, kind.cached * rng.lognormal(0, _CACHED_SPREAD))
    return Traffic(at, histograms, {"prefix_cache_queries": queries, "prefix_cache_hits": hits}, 60.0)


def _histogram(kind: TrafficModel, name: str, groups: int, counts: Floats, rng: np.random.Generator) -> Histogram:
    """Counts of one minute; the sum of many values is nearly normal."""
    below = (np.cumsum(counts) * kind.together).tolist()
    mean, spread = _mean_of(kind, name), math.sqrt(math.expm1(_SPREAD[name] ** 2))
    total = mean * kind.together * max(0.0, groups + spread * math.sqrt(groups) * rng.standard_normal())
    return Histogram(dict(zip((*_edges(name), math.inf), below, strict=True)), total)


def synthetic_reference(kind: TrafficModel, rng: np.random.Generator, requests: int = 300) -> Reference:
    """The row of a study that was measured under this traffic, its figures within 10 %."""
    prompts, answers = (_lengths(kind, name, rng, requests) for name in ("prompt_tokens", "output_tokens"))
    lengths = enumerate(zip(prompts, answers, strict=True))
    records = [RequestRecord(i, 0.0, 0.0, None, 1.0, prompt, answer, "") for i, (prompt, answer) in lengths]
    quantiles = {
        "p50_latency_s": ("latency_s", 0.5), "p99_latency_s": ("latency_s", 0.99), "ttft_p50_s": ("ttft_s", 0.5),
        "ttft_p99_s": ("ttft_s", 0.99),
    }  # fmt: skip
    estimates = {name: _within(_quantile_of(kind, *of), "s") for name, of in quantiles.items()}
    estimates |= {"qps": _within(kind.rate_per_s, "1/s"), "cached_prefix_share": _within(kind.cached, "share")}
    means = {name: _within(_mean_of(kind, name), "s") for name in TIME_EDGES}
    return Reference("made-up", 4, 3, estimates, records, means, ["+study=chat"])


def _lengths(kind: TrafficModel, name: str, rng: np.random.Generator, requests: int) -> list[int]:
    """Lengths in whole tokens, each in the bucket that its value is in."""
    return [math.ceil(v) for v in rng.lognormal(math.log(kind.medians[name]), _SPREAD[name], requests)]


def _quantile_of(kind: TrafficModel, name: str, quantile: float) -> float:
    return kind.medians[name] * math.exp(_SPREAD[name] * NormalDist().inv_cdf(quantile))


def _mean_of(kind: TrafficModel, name: str) -> float:
    return kind.medians[name] * math.exp(_SPREAD[name] ** 2 / 2)


def _within(value: float, unit: str) -> Estimate:
    return Estimate(value, value * 0.9, value * 1.1, 3, unit)
