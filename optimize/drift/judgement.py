"""Whether the claims of a study still hold, by the readings of a server. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from optimize.drift.claims import Claim, Watch
from optimize.drift.detector import Alarm, first_alarm, threshold
from optimize.engine.traffic import Traffic

READINGS_LEAST = 30
"""Readings with requests below which silence says nothing: a vote needs about as many to prove a change."""
_RECENT = 1440


@dataclass(frozen=True)
class Verdict:
    """What the readings say of one claim.

    Attributes:
        claim: The claim.
        alarm: The change that refutes it; None while it holds.
        watch: The bound that is exceeded; None while the claim holds.
        observation: The server's figure: since the change, or of late.
    """

    claim: Claim
    alarm: Alarm | None
    watch: Watch | None
    observation: str

    @property
    def holds(self) -> bool:
        return self.alarm is None


def judge(
    claims: Sequence[Claim], readings: Sequence[Traffic], alarm_readings: float, together: float = 1.0
) -> list[Verdict]:  # fmt: skip
    """Judge all claims together.

    Args:
        claims: What the study claims.
        readings: What a server has seen, by time.
        alarm_readings: Unchanged readings in which at most one false alarm is to be expected.
        together: Number of requests that may come together and be alike.
    """
    limit = threshold(sum(len(claim.watches) for claim in claims), alarm_readings)
    of_late = _together(readings[-_RECENT:])
    return [_verdict(claim, readings, _alarms(claim, readings, limit, together), of_late) for claim in claims]


def _alarms(
    claim: Claim, readings: Sequence[Traffic], limit: float, together: float
) -> list[tuple[Alarm, Watch]]:  # fmt: skip
    alarms = []
    for watch in claim.watches:
        counts = ((reading.at, watch.count(reading)) for reading in readings)
        readable = [(at, *count) for at, count in counts if count is not None]
        if alarm := first_alarm(watch.detector(together), readable, limit):
            alarms.append((alarm, watch))
    return alarms


def _verdict(
    claim: Claim, readings: Sequence[Traffic], alarms: Sequence[tuple[Alarm, Watch]], of_late: Traffic | None
) -> Verdict:  # fmt: skip
    alarm, watch = min(alarms, key=lambda pair: pair[0].at, default=(None, None))
    period = of_late if alarm is None else _together([r for r in readings if r.at > alarm.since])
    return Verdict(claim, alarm, watch, "nothing" if period is None else claim.observe(period))


def _together(readings: Sequence[Traffic]) -> Traffic | None:
    """All readings with requests as one; None where there are none."""
    busy = [reading for reading in readings if reading.requests]
    return reduce(in_turn, busy) if busy else None


def in_turn(earlier: Traffic, later: Traffic) -> Traffic:
    """The traffic of two times that follow each other."""
    both = earlier.plus(later)
    servers = max(earlier.servers, later.servers)
    return Traffic(later.at, both.histograms, both.counters, earlier.seconds + later.seconds, servers)
