"""Where a load curve bends: beyond the knee, more load buys waiting instead of throughput."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optimize.errors import ConfigError

_LEAST_POINTS = 4
_LEAST_BEND = 0.1


@dataclass(frozen=True)
class LoadPoint:
    """One rate of a load curve.

    Attributes:
        rate_per_s: Requests per second that were asked for.
        p99_latency_s: Of requests, from when they were due.
        queue_s: P95 of the waiting times before a request is first run, as vLLM tells.
        decode_s: Mean time per token, as vLLM tells.
    """

    rate_per_s: float
    p99_latency_s: float
    queue_s: float
    decode_s: float


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


def read_load_curve(path: Path, trial: int) -> list[LoadPoint]:
    """The load curve of a row; no points where it is another row's.

    Raises:
        ConfigError: the file is none.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        points = [LoadPoint(**{k: float(p[k]) for k in LoadPoint.__annotations__}) for p in raw["points"]]
        return points if raw["trial"] == trial else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"alerts.load_curve: {path} is no load curve ({error}): measure it again, remove it, or set "
            "alerts.from_knee=false"
        ) from error


def write_load_curve(path: Path, trial: int, points: Sequence[LoadPoint]) -> None:
    """Write a load curve where `read_load_curve` finds it."""
    rows = [{k: getattr(p, k) for k in LoadPoint.__annotations__} for p in points]
    path.write_text(json.dumps({"trial": trial, "points": rows}, indent=1), encoding="utf-8")
