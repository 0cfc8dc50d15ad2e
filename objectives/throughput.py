"""How much work gets done, and how much of it fails."""

from __future__ import annotations

from objectives.base import Direction, Estimate, Measurement, Objective
from objectives.intervals import BATCHES, proportion_interval, rate_interval


class RequestRate(Objective):
    """Answered requests per second (QPS) over the window."""

    unit = "1/s"
    direction = Direction.MAXIMIZE

    def estimate(self, measurement: Measurement) -> Estimate:
        done = [r.done_s for r in measurement.completed_in_window]
        rate = rate_interval(done, measurement.window_start_s, measurement.window_end_s)
        return Estimate(*rate, n=len(done), unit=self.unit)


class OutputTokenRate(Objective):
    """Output tokens per second over the window, of answered requests only."""

    unit = "tokens/s"
    direction = Direction.MAXIMIZE

    def estimate(self, measurement: Measurement) -> Estimate:
        # Each answer's tokens count when it completes; the batches are wide enough for that not to matter.
        times = [r.done_s for r in measurement.completed_in_window for _ in range(r.output_tokens)]
        rate = rate_interval(times, measurement.window_start_s, measurement.window_end_s)
        return Estimate(*rate, n=BATCHES, unit=self.unit)


class ErrorRate(Objective):
    """Share of the window's requests that failed, whatever the reason."""

    unit = "share"
    direction = Direction.MINIMIZE
    log_scale = False

    def estimate(self, measurement: Measurement) -> Estimate:
        due = measurement.due_in_window
        failed = sum(r.error is not None for r in due)
        return Estimate(*proportion_interval(failed, len(due)), n=len(due), unit=self.unit)
