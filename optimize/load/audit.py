"""Quality of the client over a window: how late it sent, and how busy it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from objectives import RequestRecord
from objectives.intervals import quantile_interval
from optimize.config.measuring import Guard
from optimize.load.clients import OngoingLoad

_FEWEST_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class Audit:
    """The client's own figures over the window.

    Attributes:
        send_lag_median_s: Median time from when a request was due until it was sent.
        send_lag_p99_s: 99th percentile of that time.
        send_lag_p99_low_s: Lower end of its interval: of a hundred requests, P99 is one hiccup of the machine.
        latency_median_s: Median latency, for comparison with the lag.
        asked: Requests, or conversations, that the schedule placed in the window; None in a closed loop, without one.
        sent: Requests due in the window that were sent; of conversations that arrive on a schedule, their first turns.
        client_cpu: Share of a core used by the busiest client process.
        processes: Number of client processes.
    """

    send_lag_median_s: float
    send_lag_p99_s: float
    send_lag_p99_low_s: float
    latency_median_s: float
    asked: int | None
    sent: int
    client_cpu: float
    processes: int

    def problems(self, guard: Guard) -> list[str]:
        """Reasons to reject the client's figures; empty where they are valid."""
        problems = [f"requests were {self._late(guard)}"] if self._lags(guard) and self._is_its_own(guard) else []
        if self.asked is not None and self.sent < _FEWEST_SHARE * self.asked:
            problems.append(f"{self.sent} of {self.asked} requests due were sent")
        if self.client_cpu > guard.client_cpu_max:
            problems.append(f"a client process used {self.client_cpu:.0%} of a core (load.guard.client_cpu_max)")
        return problems

    def stalls(self, guard: Guard) -> list[str]:
        """Lags of idle clients, which are the machine's doing; empty where there are none.

        The latencies include such waits, since they count from when requests were due; more clients would not help.
        """
        if not self._lags(guard) or self._is_its_own(guard):
            return []
        return [f"the machine stalled clients at {self.client_cpu:.0%} of a core: requests were {self._late(guard)}"]

    def _material_s(self, guard: Guard) -> float:
        return max(guard.send_lag_p99_max_s, guard.send_lag_share_max * self.latency_median_s)

    def _lags(self, guard: Guard) -> bool:
        return self.send_lag_p99_low_s > self._material_s(guard)

    def _is_its_own(self, guard: Guard) -> bool:
        """Whether the clients cause the lag: at half of their CPU limit or more, or late as a rule."""
        return self.client_cpu > guard.client_cpu_max / 2 or self.send_lag_median_s > self._material_s(guard)

    def _late(self, guard: Guard) -> str:
        return (
            f"sent {self.send_lag_p99_s * 1000:.0f} ms late (P99), significantly more than "
            f"{self._material_s(guard) * 1000:.0f} ms (load.guard.send_lag_p99_max_s, load.guard.send_lag_share_max)"
        )

    def in_words(self) -> str:
        """Summary in one line."""
        lag = f"requests sent {self.send_lag_median_s * 1000:.2f} ms after they were due (median)"
        rate = "" if self.asked is None else f", {self.sent} of {self.asked} scheduled"
        clients = f"{self.processes} client process{'es' if self.processes > 1 else ''}"
        return (
            f"{lag}, P99 {self.send_lag_p99_s * 1000:.2f} ms{rate}; {clients}, the busiest at "
            f"{self.client_cpu:.0%} of a core"
        )


def audit_of(run: OngoingLoad, due: Sequence[RequestRecord], asked: int | None, start_s: float, end_s: float) -> Audit:
    """The audit of one window.

    Args:
        run: The ended load.
        due: Requests due in the window, failed ones included.
        asked: Requests, or conversations, that the schedule placed in the window; None in a closed loop.
        start_s: Start of the window.
        end_s: End of the window.
    """
    lags = [r.sent_s - r.due_s for r in sorted(due, key=lambda r: r.due_s)] or [0.0]
    p99_s, p99_low_s, _ = quantile_interval(lags, 0.99)
    return Audit(
        send_lag_median_s=float(np.median(lags)),
        send_lag_p99_s=p99_s,
        send_lag_p99_low_s=p99_low_s,
        latency_median_s=float(np.median([r.latency_s for r in due] or [0.0])),
        asked=asked,
        sent=sum(asked is None or r.turn == 1 for r in due),
        client_cpu=max((_share(points, start_s, end_s) for points in run.cpu), default=0.0),
        processes=len(run.cpu),
    )


def _share(points: Sequence[tuple[float, float]], start_s: float, end_s: float) -> float:
    """Processor seconds per second between two times, interpolated between readings of the total."""
    if len(points) < 2:
        return 0.0
    times, totals = zip(*points, strict=True)
    first, last = np.interp([start_s, end_s], times, totals)
    return float(last - first) / (end_s - start_s)
