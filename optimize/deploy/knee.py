"""Where a load curve bends: beyond the knee, more load buys waiting instead of throughput."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.errors import ConfigError

_LEAST_POINTS = 4
_LEAST_BEND = 0.1
_STRESS = "stress"


@dataclass(frozen=True)
class LoadPoint:
    """One rate of a load curve.

    Attributes:
        rate_per_s: Requests per second that were asked for.
        p99_latency_s: Of requests, from when they were due.
        queue_s: Seconds of waiting before a request is run.
    """

    rate_per_s: float
    p99_latency_s: float
    queue_s: float


def knee(points: Sequence[LoadPoint]) -> LoadPoint | None:
    """The last rate before latency turns up: the point farthest below the chord of the curve.

    Source: Satopaa et al., "Finding a 'Kneedle' in a Haystack", ICDCSW 2011, for a convex increasing curve.

    Returns:
        None where there are too few points or the curve does not bend.
    """
    curve = sorted(points, key=lambda p: p.rate_per_s)
    if len(curve) < _LEAST_POINTS:
        return None
    rates = _to_unit([p.rate_per_s for p in curve])
    latencies = _to_unit([p.p99_latency_s for p in curve])
    below = [rate - latency for rate, latency in zip(rates, latencies, strict=True)]
    best = max(range(len(curve)), key=below.__getitem__)
    return curve[best] if below[best] >= _LEAST_BEND else None


def _to_unit(values: Sequence[float]) -> list[float]:
    low, high = values[0], max(values)
    return [(v - low) / (high - low) if high > low else 0.0 for v in values]


def read_load_curve(path: Path, row: str) -> list[LoadPoint]:
    """The load curve of a row, from a certificate (`certify.json`): of several repetitions, their means.

    A certificate tells latencies, not vLLM's own waiting times. What a rate's P99 has beyond the median of the lowest
    rate is taken for waiting: an upper estimate of it.

    Args:
        path: The certificate.
        row: How its title names the row.

    Returns:
        The points; none where it is another row's, or has no stress test.

    Raises:
        ConfigError: the file is none.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if row not in raw["title"]:
            return []
        runs = [run for found in raw["rows"] if found["scenario"] == _STRESS for run in found["runs"]]
        curves = [run["tables"]["curve"] for run in runs if run["tables"].get("curve")]
        return [_mean([_point(step, curve[0]) for step, curve in both]) for both in _aligned(curves)]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"alerts.load_curve: {path} is no certificate ({type(error).__name__}: {error}): make it with "
            "python -m optimize.certify, or set alerts.from_knee=false"
        ) from error


def _aligned(curves: Sequence[Sequence[Any]]) -> list[list[tuple[Any, Sequence[Any]]]]:
    steps = min((len(curve) for curve in curves), default=0)
    return [[(curve[step], curve) for curve in curves] for step in range(steps)]


def _point(step: Mapping[str, Any], lowest: Mapping[str, Any]) -> LoadPoint:
    p99_s = float(step["p99_s"])
    return LoadPoint(float(step["offered_per_s"]), p99_s, max(0.0, p99_s - float(lowest["p50_s"])))


def _mean(points: Sequence[LoadPoint]) -> LoadPoint:
    rate, p99, queue = (
        statistics.fmean(getattr(p, name) for p in points) for name in ("rate_per_s", "p99_latency_s", "queue_s")
    )
    return LoadPoint(rate, p99, queue)
