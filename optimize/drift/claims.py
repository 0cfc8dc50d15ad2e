"""What a study claims of traffic and speed, as bounds that readings of a server can refute. Pure.

A claim is watched by shares of requests beyond an edge of vLLM's own buckets, or by a vote for each minute: whether the
minute's mean, rate or cached share is beyond a limit, which as long as nothing has changed happens in at most half of
the minutes. Votes make no assumption on how requests of a minute depend on each other.

Speed and arrivals are watched towards more alone: at night a server is faster and has less to do, which refutes
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import betaincinv

from optimize.drift.detector import Detector, widened
from optimize.engine.traffic import Traffic
from optimize.formatting import figure, title_of, unit_of

if TYPE_CHECKING:
    from objectives import Estimate
    from optimize.drift.reference import Reference

Count = Callable[[Traffic], tuple[float, float] | None]
"""From a reading to the number of its requests that exceed and that of all; None where it says nothing."""
_CONFIDENCE = 0.999
"""Of the bound on a share that was seen among the study's requests."""
_VOTE = 0.5
_QUANTILES = {
    "p50_latency_s": ("latency_s", 0.5), "p90_latency_s": ("latency_s", 0.9), "p99_latency_s": ("latency_s", 0.99),
    "ttft_p50_s": ("ttft_s", 0.5), "ttft_p99_s": ("ttft_s", 0.99),
}  # fmt: skip
"""Metric -> quantity and quantile."""
_LENGTHS = {"prompt_tokens": "prompts", "output_tokens": "answers"}
_TAIL = 0.1
TIMES = ("latency_s", "ttft_s", "tpot_s")
"""Quantities of requests that speed is judged by."""
_TRAFFIC = ("prompt_tokens", "output_tokens", "arrivals", "cached_prefix_share")
"""Claims on traffic; the others are on speed."""


@dataclass(frozen=True)
class Watch:
    """One bound, by which a claim is refuted.

    Attributes:
        title: What exceeds the bound, e.g. "answers above 200 tokens".
        bound: Largest share that may, as long as nothing has changed.
        count: Counts a reading.
        votes: Whether a reading counts as one, and not as its requests.
    """

    title: str
    bound: float
    count: Count
    votes: bool = False

    def detector(self, together: float) -> Detector:
        """A new detector of it, where requests may come in groups of `together`."""
        return Detector(self.bound, 1.0 if self.votes else together)


@dataclass(frozen=True)
class Claim:
    """One statement of a study.

    Attributes:
        name: Metric or quantity.
        statement: The study's figure, for people.
        watches: The bounds that refute it.
        observe: Says the same figure of a reading.
    """

    name: str
    statement: str
    watches: Sequence[Watch]
    observe: Callable[[Traffic], str]

    @property
    def on_traffic(self) -> bool:
        return self.name in _TRAFFIC


def claims_of(reference: Reference, edges: Mapping[str, Sequence[float]], margin: float) -> list[Claim]:
    """All claims of a row that a server's histograms can refute.

    Args:
        reference: The row.
        edges: Quantity -> upper edges of its finite buckets.
        margin: Share by which odds, the rate and the cached share may exceed what the study leaves open.
    """
    every = [
        *(_length(reference, name, edges.get(name, ()), margin) for name in _LENGTHS),
        _arrivals(reference, margin), _cached(reference, margin),
        *(_quantile(reference, metric, edges, margin) for metric in _QUANTILES),
        *(_mean(reference, quantity, margin) for quantity in TIMES if quantity in edges),
    ]  # fmt: skip
    return [claim for claim in every if claim is not None and claim.watches]


# --- lengths ----------------------------------------------------------------------------------------------------------


def _length(reference: Reference, name: str, edges: Sequence[float], margin: float) -> Claim | None:
    """Lengths against the study's, upwards and downwards, in the middle and at the ends."""
    values = reference.lengths(name)
    if not values or not edges:
        return None
    mean = sum(values) / len(values)
    return Claim(
        name, f"{_LENGTHS[name]} of {mean:.0f} tokens on average", list(_edge_watches(name, values, edges, margin)),
        lambda t: f"{t.histograms[name].mean:.0f} tokens on average",
    )  # fmt: skip


def _edge_watches(name: str, values: Sequence[float], edges: Sequence[float], margin: float) -> Iterator[Watch]:
    above = {edge: sum(value > edge for value in values) for edge in edges}
    n, noun = len(values), _LENGTHS[name]
    middle = min(edges, key=lambda edge: abs(above[edge] / n - 0.5))
    high = next((edge for edge in edges if above[edge] <= _TAIL * n), edges[-1])
    low = next((edge for edge in reversed(edges) if n - above[edge] <= _TAIL * n), edges[0])
    for edge in dict.fromkeys((middle, high)):
        yield Watch(f"{noun} above {edge:g} tokens", _bound(above[edge], n, margin), _above(name, edge))
    for edge in dict.fromkeys((middle, low)):
        yield Watch(f"{noun} of at most {edge:g} tokens", _bound(n - above[edge], n, margin), _below(name, edge))


def _bound(hits: int, n: int, margin: float) -> float:
    """Largest share that `hits` of `n` leave open (Clopper and Pearson, 1934), with a margin."""
    upper = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, _CONFIDENCE))
    return widened(upper, margin)


def _above(name: str, edge: float) -> Count:
    def count(traffic: Traffic) -> tuple[float, float] | None:
        histogram = traffic.histograms.get(name)
        return (histogram.above(edge), histogram.n) if histogram and histogram.n else None

    return count


def _below(name: str, edge: float) -> Count:
    def count(traffic: Traffic) -> tuple[float, float] | None:
        histogram = traffic.histograms.get(name)
        return (histogram.n - histogram.above(edge), histogram.n) if histogram and histogram.n else None

    return count


# --- votes ------------------------------------------------------------------------------------------------------------


def _vote(title: str, value: Callable[[Traffic], float], limit: float) -> Watch:
    def count(traffic: Traffic) -> tuple[float, float] | None:
        reading = value(traffic)
        return None if math.isnan(reading) else (float(reading > limit), 1.0)

    return Watch(title, _VOTE, count, votes=True)


def _arrivals(reference: Reference, margin: float) -> Claim | None:
    """The rate that the row was measured at, or carries within the service-level objective."""
    capacity, qps = reference.estimates.get("capacity_per_s"), reference.estimates.get("qps")
    if capacity is not None:
        limit, statement = capacity.low, f"a capacity of {figure(capacity)}"
    elif qps is not None:
        limit, statement = qps.high * (1 + margin), f"throughput of {figure(qps)}"
    else:
        return None
    watch = _vote(f"minutes of more than {limit:.3g} requests/s", _rate, limit)
    return Claim("arrivals", statement, [watch], _rate_in_words)


def _rate_in_words(traffic: Traffic) -> str:
    rate = _rate(traffic)
    return "in a time that is not known" if math.isnan(rate) else f"{rate:.3g} requests/s"


def _rate(traffic: Traffic) -> float:
    """Requests per second and server; not a number where the time is not known."""
    return traffic.requests / traffic.seconds / traffic.servers


def _cached(reference: Reference, margin: float) -> Claim | None:
    share = reference.estimates.get("cached_prefix_share")
    if share is None:
        return None
    low, high = 1 - widened(1 - min(share.low, 1.0), margin), widened(min(share.high, 1.0), margin)
    watches = [_vote(f"minutes with less than {low:.0%} of the prompts cached", lambda t: -_cached_share(t), -low)]
    watches += [_vote(f"minutes with more than {high:.0%} of the prompts cached", _cached_share, high)]
    return Claim(
        "cached_prefix_share", f"{share.value:.0%} of the prompts' tokens cached ({share.low:.0%} to {share.high:.0%})",
        watches, _cached_in_words,
    )  # fmt: skip


def _cached_in_words(traffic: Traffic) -> str:
    share = _cached_share(traffic)
    return "not counted" if math.isnan(share) else f"{share:.0%} cached"


def _cached_share(traffic: Traffic) -> float:
    queries = traffic.counters.get("prefix_cache_queries", 0.0)
    return traffic.counters.get("prefix_cache_hits", 0.0) / queries if queries else math.nan


def _mean(reference: Reference, quantity: str, margin: float) -> Claim | None:
    mean = reference.means.get(quantity)
    if mean is None:
        return None
    limit = _upper_end(reference, mean, margin)
    watch = _vote(f"minutes with a mean above {_seconds(limit)}", lambda t: _mean_of(t, quantity), limit)
    return Claim(
        f"mean {quantity}", f"a mean of {figure(mean)}", [watch],
        lambda t: f"a mean of {_seconds(_mean_of(t, quantity))}",
    )  # fmt: skip


def _upper_end(reference: Reference, estimate: Estimate, margin: float) -> float:
    """Where a further measurement may fall; a single one says nothing of how far they differ, so the margin does."""
    return estimate.high * (1.0 if reference.rounds else 1 + margin)


def _mean_of(traffic: Traffic, quantity: str) -> float:
    histogram = traffic.histograms.get(quantity)
    return math.nan if histogram is None else histogram.mean


# --- quantiles --------------------------------------------------------------------------------------------------------


def _quantile(
    reference: Reference, metric: str, edges: Mapping[str, Sequence[float]], margin: float
) -> Claim | None:  # fmt: skip
    """The upper end of a quantile: beyond the edge after it are at most as many requests as beyond the quantile."""
    estimate, (quantity, quantile) = reference.estimates.get(metric), _QUANTILES[metric]
    if estimate is None:
        return None
    end = _upper_end(reference, estimate, margin)
    edge = next((edge for edge in edges.get(quantity, ()) if edge >= end), None)
    if edge is None:
        return None
    watch = Watch(f"requests above {_seconds(edge)}", 1 - quantile, _above(quantity, edge))
    return Claim(
        metric, f"{title_of(metric)} of {figure(estimate)}", [watch], lambda t: _share_above(t, quantity, edge)
    )


def _share_above(traffic: Traffic, quantity: str, edge: float) -> str:
    histogram = traffic.histograms[quantity]
    return f"{histogram.above(edge) / max(histogram.n, 1):.1%} of the requests above {_seconds(edge)}"


def _seconds(value: float) -> str:
    factor, unit = unit_of("s", value)
    return f"{value / factor:.3g} {unit}"
