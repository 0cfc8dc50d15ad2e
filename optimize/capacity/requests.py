"""The requests of one probe, as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from objectives import RequestRecord

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests in order of arrival; all arrays have the shape (requests,), times are in seconds.

    Attributes:
        due_s: When each was due, since the probe's load began.
        ttft_s: Time to the first token; nan where the answer did not stream, failed or is in flight.
        tpot_s: Time per output token after the first; nan where there is none.
        latency_s: Time to the end of the answer; nan of a request in flight.
        failed: Whether it got no answer.
        in_flight: Whether its answer is still awaited.
    """

    due_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    latency_s: Floats
    failed: Flags
    in_flight: Flags

    @classmethod
    def of(cls, records: Iterable[RequestRecord], in_flight_due_s: Iterable[float] = ()) -> Requests:
        """The requests that have ended, and those still in flight by the times at which they were due."""
        rows = [
            (r.due_s, _or_nan(r.ttft_s), _or_nan(r.tpot_s), r.latency_s, r.error is not None, False) for r in records
        ]
        rows += [(due_s, math.nan, math.nan, math.nan, False, True) for due_s in in_flight_due_s]
        table = np.array(sorted(rows, key=lambda row: row[0]), dtype=np.float64).reshape(-1, 6).T
        return cls(table[0], table[1], table[2], table[3], table[4] > 0, table[5] > 0)

    def __len__(self) -> int:
        return len(self.due_s)

    def between(self, start_s: float, end_s: float) -> Requests:
        """Those that were due in [start_s, end_s)."""
        return self.where((self.due_s >= start_s) & (self.due_s < end_s))

    def since(self, start_s: float) -> Requests:
        """Those that were due from a second on, which is the new second 0."""
        later = self.between(start_s, math.inf)
        return replace(later, due_s=later.due_s - start_s)

    def where(self, rows: Flags) -> Requests:
        """Those that are marked; shape (requests,)."""
        return Requests(
            self.due_s[rows], self.ttft_s[rows], self.tpot_s[rows], self.latency_s[rows], self.failed[rows],
            self.in_flight[rows],
        )  # fmt: skip


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
