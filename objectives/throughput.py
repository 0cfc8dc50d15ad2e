"""Rates of answers and tokens, and the share of requests that fail."""

from __future__ import annotations

from dataclasses import dataclass

from objectives.base import Direction, Estimate, Measurement, Objective, RequestRecord
from objectives.intervals import BATCHES, proportion_interval, rate_interval


class RequestRate(Objective):
    """Answered requests per second (QPS) over the window."""

    unit = "1/s"
    direction = Direction.MAXIMIZE

    def estimate(self, measurement: Measurement) -> Estimate:
        done = [r.done_s for r in measurement.completed_in_window]
        rate = rate_interval(done, measurement.window_start_s, measurement.window_end_s)
        return Estimate(*rate, n=len(done), unit=self.unit)


@dataclass
class Goodput(Objective):
    """Requests per second that were answered within all limits that are set.

    An answer that does not stream shows its first token at its end, and has no time per token to limit.
    Source: Zhong et al., "DistServe", OSDI 2024, section 2.

    Attributes:
        latency_max_s: Limit on the time from due to complete answer.
        ttft_max_s: Limit on the time from due to first token.
        tpot_max_s: Limit on the mean time per output token after the first.
    """

    latency_max_s: float | None = None
    ttft_max_s: float | None = None
    tpot_max_s: float | None = None

    unit = "1/s"
    direction = Direction.MAXIMIZE

    def __post_init__(self) -> None:
        limits = [v for v in (self.latency_max_s, self.ttft_max_s, self.tpot_max_s) if v is not None]
        if not limits or min(limits) <= 0:
            raise ValueError("needs at least one of latency_max_s, ttft_max_s, tpot_max_s, each positive")

    def estimate(self, measurement: Measurement) -> Estimate:
        done = [r.done_s for r in measurement.completed_in_window if self._good(r)]
        rate = rate_interval(done, measurement.window_start_s, measurement.window_end_s)
        return Estimate(*rate, n=len(done), unit=self.unit)

    def _good(self, record: RequestRecord) -> bool:
        ttft_s = record.latency_s if record.ttft_s is None else record.ttft_s
        pairs = ((record.latency_s, self.latency_max_s), (ttft_s, self.ttft_max_s), (record.tpot_s, self.tpot_max_s))
        return all(limit is None or seconds is None or seconds <= limit for seconds, limit in pairs)


class OutputTokenRate(Objective):
    """Output tokens per second over the window, of answered requests only; None where the server counts none."""

    unit = "tokens/s"
    direction = Direction.MAXIMIZE

    def estimate(self, measurement: Measurement) -> Estimate | None:
        counts = [(r.done_s, r.output_tokens) for r in measurement.completed_in_window]
        if any(tokens is None for _, tokens in counts):
            return None
        # The tokens of an answer count when it completes, which makes no difference at the width of the bins.
        times = [done_s for done_s, tokens in counts for _ in range(tokens or 0)]
        rate = rate_interval(times, measurement.window_start_s, measurement.window_end_s)
        return Estimate(*rate, n=BATCHES, unit=self.unit)


class ErrorRate(Objective):
    """Share of the window's requests that failed for any reason."""

    unit = "share"
    direction = Direction.MINIMIZE
    log_scale = False

    def estimate(self, measurement: Measurement) -> Estimate:
        due = measurement.due_in_window
        failed = sum(r.error is not None for r in due)
        return Estimate(*proportion_interval(failed, len(due)), n=len(due), unit=self.unit)
