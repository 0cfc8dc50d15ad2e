"""How long a study will take, from the seconds of its trials so far. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import fmean

from optimize.ledger import TrialRecord
from optimize.outcome import Role, State


@dataclass
class Forecast:
    """The expected time to the end of a study.

    A trial of the search is expected to take as long as those so far. A confirmation starts an engine of its own and
    measures a full window, while the search may stay on a live engine and cut trials short: its time is the mean start
    plus the mean of what followed a start in completed trials that were not cut short. Side by side, trials take the
    time of one. The baseline stands for the search until a trial of the search has ended, and for the confirmation
    with the others.

    Attributes:
        trials: Trials in the budget, the baseline included.
        confirmations: Measurements of the confirmation.
        slots: Trials at a time.
        done: Trials of the budget that are done.
        confirmed: Measurements of the confirmation that are done.
    """

    trials: int
    confirmations: int = 0
    slots: int = 1
    done: int = 0
    confirmed: int = 0
    _baseline_s: list[float] = field(default_factory=list)
    _search_s: list[float] = field(default_factory=list)
    _starts_s: list[float] = field(default_factory=list)
    _loads_s: list[float] = field(default_factory=list)

    def add(self, record: TrialRecord, counts: bool) -> None:
        """Take in a trial that has ended.

        Args:
            record: The trial.
            counts: Whether it uses up budget.
        """
        self.done += counts
        seconds, start_s = _seconds(record), record.seconds.get("engine_start", 0.0)
        if record.role is Role.CONFIRMATION:
            self.confirmed += record.state is not State.FAILED
        elif counts:
            (self._baseline_s if record.role is Role.BASELINE else self._search_s).append(seconds)
        if record.state is State.COMPLETED and not record.cut_short:
            self._loads_s.append(seconds - start_s)
            if record.new_engine:
                self._starts_s.append(start_s)

    def search_s(self) -> float | None:
        """Seconds to the end of the search; None before a trial has ended."""
        seconds = self._search_s or self._baseline_s
        return _shared(max(0, self.trials - self.done) * fmean(seconds), self.slots) if seconds else None

    def confirmation_s(self) -> float:
        """Seconds that the rest of the confirmation takes; 0 where nothing was measured yet."""
        if not self._loads_s:
            return 0.0
        each_s = fmean(self._loads_s) + (fmean(self._starts_s) if self._starts_s else 0.0)
        return _shared(max(0, self.confirmations - self.confirmed) * each_s, self.slots)

    def remaining_s(self, confirming: bool, search_left_s: float | None = None) -> float | None:
        """Seconds to the end of the study; None before a trial has ended.

        Args:
            confirming: Whether the search has ended.
            search_left_s: What is left of the time budget of the search; None without one.
        """
        search_s = 0.0 if confirming else self.search_s()
        if search_s is None:
            return None
        if search_left_s is not None:
            search_s = min(search_s, max(0.0, search_left_s))
        return search_s + self.confirmation_s()


def _seconds(record: TrialRecord) -> float:
    return record.seconds.get("ask", 0.0) + record.seconds.get("total", 0.0)


def _shared(seconds: float, slots: int) -> float:
    return seconds / max(1, slots)


def measurements(candidates: int, rounds: int, trials: int) -> int:
    """Measurements of a confirmation: each candidate and the baseline once a round; none without candidates."""
    return (min(candidates, trials) + 1) * rounds if candidates and trials else 0


def about(seconds: float) -> str:
    """A duration that is an estimate: "about 25 minutes"; hours with one decimal."""
    if seconds < 90:
        return "about a minute"
    return f"about {seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"about {seconds / 3600:.1f} hours"


def clock_at(unix_time: float, now: float) -> str:
    """A local time: "14:32", with the day where it is more than half a day from now."""
    return time.strftime("%H:%M" if unix_time - now < 12 * 3600 else "%a %H:%M", time.localtime(unix_time))
