"""Latencies. Every clock starts when the request was due, so a stalled client cannot hide a stall."""

from __future__ import annotations

from dataclasses import dataclass

from objectives.base import Direction, Estimate, Measurement, Objective
from objectives.intervals import mean_interval, quantile_interval


class _Seconds(Objective):
    unit = "s"
    direction = Direction.MINIMIZE


@dataclass
class _Quantile(_Seconds):
    quantile: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must lie between 0 and 1, got {self.quantile}")


@dataclass
class LatencyQuantile(_Quantile):
    """A quantile of the time from due to complete answer, over requests due in the window.

    Failed requests count with the time until they failed: a configuration must not look fast by dropping work.
    """

    quantile: float = 0.99

    def estimate(self, measurement: Measurement) -> Estimate | None:
        latencies = [r.latency_s for r in measurement.due_in_window]
        if not latencies:
            return None
        return Estimate(*quantile_interval(latencies, self.quantile), n=len(latencies), unit=self.unit)


@dataclass
class TimeToFirstToken(_Quantile):
    """A quantile of the time from due to first token, thinking included; None where answers do not stream.

    Attributes:
        from_turn: First turn of conversations that counts, from 1; None for all.
    """

    from_turn: int | None = None

    def estimate(self, measurement: Measurement) -> Estimate | None:
        first = self.from_turn or 1
        waits = [r.ttft_s for r in measurement.answered if r.ttft_s is not None and r.turn >= first]
        if not waits:
            return None
        return Estimate(*quantile_interval(waits, self.quantile), n=len(waits), unit=self.unit)


@dataclass
class TimeToFirstAnswerToken(_Quantile):
    """A quantile of the time from due to the first token after a model's thinking; None where no answer has any.

    Answers that end within their thinking have no such token, and are left out.
    """

    def estimate(self, measurement: Measurement) -> Estimate | None:
        answered = measurement.answered
        waits = [r.first_answer_s - r.due_s for r in answered if r.first_answer_s is not None]
        if not waits or not any(r.thinks for r in answered):
            return None
        return Estimate(*quantile_interval(waits, self.quantile), n=len(waits), unit=self.unit)


class TimePerOutputToken(_Seconds):
    """Mean time per output token after the first; None where answers do not stream."""

    def estimate(self, measurement: Measurement) -> Estimate | None:
        times = [r.tpot_s for r in measurement.answered if r.tpot_s is not None]
        if not times:
            return None
        return Estimate(*mean_interval(times), n=len(times), unit=self.unit)
