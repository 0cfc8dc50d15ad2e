"""Waiting times and capacities of queues.

Sources of the formulas: Kleinrock, "Queueing Systems", volume 1, 1975, sections 3.2 (M/M/1) and 3.5 (M/M/m, Erlang's
C formula).
"""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]


def single_wait(due_s: Floats, serve_s: Floats, free_s: list[float]) -> Floats:
    """Waiting times at one server that is free from `free_s[0]` on, which is brought up to date.

    Lindley's recursion, unrolled: an answer begins when it is due, or when the work before it has been done.
    """
    before = np.concatenate([[0.0], np.cumsum(serve_s)[:-1]])
    start_s: Floats = before + np.maximum(np.maximum.accumulate(due_s - before), free_s[0])
    free_s[0] = float(start_s[-1] + serve_s[-1])
    wait_s: Floats = start_s - due_s
    return wait_s


def many_wait(due_s: Floats, serve_s: Floats, free_s: list[float]) -> Floats:
    """Waiting times at several servers; `free_s` says from when on each is free, and is brought up to date."""
    heapq.heapify(free_s)
    wait_s = []
    for due, serve in zip(due_s.tolist(), serve_s.tolist(), strict=True):
        start = max(due, free_s[0])
        heapq.heapreplace(free_s, start + serve)
        wait_s.append(start - due)
    return np.array(wait_s)


def waiting_share(rate_per_s: float, servers: int, served_per_s: float, longer_than_s: float) -> float:
    """Share of requests that wait longer than so many seconds in an M/M/m queue of the total speed `served_per_s`."""
    offered = rate_per_s / served_per_s * servers
    blocked = 1.0
    for m in range(1, servers + 1):  # Erlang's B formula, one server after the other
        blocked = offered * blocked / (m + offered * blocked)
    busy = rate_per_s / served_per_s
    return blocked / (1 - busy * (1 - blocked)) * math.exp(-(served_per_s - rate_per_s) * longer_than_s)


def queue_capacity(servers: int, served_per_s: float, limit_s: float, least: float) -> float:
    """The rate at which a share `least` of requests waits no longer than `limit_s`."""

    def surplus(rate: float) -> float:
        return waiting_share(rate, servers, served_per_s, limit_s) - (1 - least)

    return float(brentq(surplus, 1e-6 * served_per_s, (1 - 1e-9) * served_per_s))
