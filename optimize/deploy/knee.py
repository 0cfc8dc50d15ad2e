"""The knee of a load curve, beyond which more load adds waiting rather than throughput."""

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
        rate_per_s: Offered requests per second.
        p99_latency_s: P99 latency of requests, counted from when they were due.
        queue_s: Seconds that a request waits before it runs.
    """

    rate_per_s: float
    p99_latency_s: float
    queue_s: float


def knee(points: Sequence[LoadPoint]) -> LoadPoint | None:
    """The last rate before latency turns upwards: the point farthest below the chord of the curve.

    Source: Satopaa et al., "Finding a 'Kneedle' in a Haystack", ICDCSW 2011, for a convex increasing curve.

    Returns:
        None for too few points, or a curve without a bend.
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
    """The load curve of a row from a certificate (`certify.json`), averaged over its repetitions.

    A certificate holds latencies, not vLLM's own waiting times. The excess of a rate's P99 over the median at the
    lowest rate is taken as waiting, which is an upper estimate.

    Args:
        path: The certificate.
        row: Name of the row in the certificate's title.

    Returns:
        The points; none for the certificate of another row, or one without a stress test.

    Raises:
        ConfigError: the file is not a certificate.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if row not in raw["title"]:
            return []
        runs = [run for entry in raw["rows"] if entry["scenario"] == _STRESS for run in entry["runs"]]
        curves = [run["tables"]["curve"] for run in runs if run["tables"].get("curve")]
        return [_mean([_point(step, curve[0]) for step, curve in steps]) for steps in _aligned(curves)]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"alerts.load_curve: {path} is not a certificate ({type(error).__name__}: {error}): make it with "
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
