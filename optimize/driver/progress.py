"""Progress of a study: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.live import Live
from rich.table import Table

from optimize.driver.forecast import Forecast, about, clock_at
from optimize.driver.heartbeat import Heartbeat
from optimize.formatting import figure, printable, shown_settings, terminal
from optimize.ledger import TrialRecord
from optimize.outcome import Role
from optimize.study.status import update


class Progress:
    """Shows phases and results; a context manager.

    Args:
        total: Trials in the budget, the baseline included.
        metrics: Metrics to show for each trial.
        deadline: `time.monotonic()` at which the time budget ends; None without one.
        folder: The study's folder, which keeps the same for whoever watches from outside; None keeps nothing.
    """

    def __init__(
        self, total: int, metrics: list[str], deadline: float | None = None, folder: Path | None = None
    ) -> None:
        self._metrics, self.deadline, self._forecast = metrics, deadline, Forecast(total)
        self._console = terminal()
        self._title, self._phase, self._phase_began = "", "", time.monotonic()
        self._running: dict[int, tuple[str, float]] = {}  # number of a trial -> (how it is called, when it began)
        self._best, self._confirming = "", False
        self._heartbeat = Heartbeat(self._state, self.say)
        view = Live(console=self._console, refresh_per_second=2, get_renderable=self._view)
        self._live = view if self._console.is_terminal else None
        self._folder = folder

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        else:
            self._heartbeat.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.clear()
        self._title = self._phase = ""
        if self._live:
            self._live.stop()
        else:
            self._heartbeat.__exit__(kind, error, trace)
        self._phase, self._phase_began = "finishing", time.monotonic()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Say now and then that this goes on, before, after or around the view of the trials, which says it better."""
        outer, self._phase, self._phase_began = self._phase, phase, time.monotonic()
        self._keep(trial="", phase=phase, phase_at=time.time(), ends_at=None)
        with self._heartbeat:
            yield
        self._phase = outer

    def resume(self, done: int) -> None:
        """Start from this number of trials of the budget."""
        self._forecast.done = done

    def expect(self, forecast: Forecast) -> None:
        """Tell the time to the end by this forecast, which knows of the confirmation and of earlier sessions."""
        self._forecast = forecast

    def _keep(self, **news: Any) -> None:
        if self._folder is not None:
            update(self._folder, done=self._forecast.done, total=self._forecast.trials, **news)

    def say(self, line: str) -> None:
        """Print a line; what a server or a log says in it commands no terminal."""
        self._heartbeat.heard()
        self._console.print(printable(line, keep="\n\t"), soft_wrap=True)

    def trial(self, record: TrialRecord) -> None:
        """Show the trial that begins."""
        settings = "vLLM's defaults" if record.baseline else shown_settings(record.params)
        self._confirming, forecast = record.role == Role.CONFIRMATION, self._forecast
        place = (
            f", confirming trial {record.confirms}"
            if self._confirming
            else f" ({forecast.done + 1} of {forecast.trials})"
        )
        head, self._phase_began = f"trial {record.number}{place}", time.monotonic()
        self._running[record.number] = head, self._phase_began
        self._title, self._phase = f"{head}: {settings}", "running"
        self._keep(trial=self._title, phase=self._phase, phase_at=time.time())
        if not self._live:
            self.say(self._title)

    def phase(self, name: str) -> None:
        """Show the phase that begins: at once on a terminal, elsewhere after a while of silence."""
        self._phase, self._phase_began = name, time.monotonic()
        self._keep(phase=name, phase_at=time.time())
        if self._live:
            self._live.refresh()

    def finished(self, record: TrialRecord, counts: bool, best: Callable[[], str]) -> None:
        """Show the result of a trial.

        Args:
            record: The trial.
            counts: Whether it uses up budget.
            best: Describes the best trial so far; called where somebody may watch.
        """
        self._running.pop(record.number, None)
        if not self._running:
            self._title, self._phase, self._phase_began = "", "choosing the next settings", time.monotonic()
            self._keep(trial="", phase=self._phase, phase_at=time.time())
        self._forecast.add(record, counts)
        self._best = best() if self._live or self._folder else ""
        remaining_s = self._remaining_s()
        self._keep(best=self._best, ends_at=None if remaining_s is None else time.time() + remaining_s)
        remainder = f", {self._remaining()}" if remaining_s else ""
        self.say(f"  trial {record.number}: {self._result(record)}{remainder}")

    def outlook(self) -> str:
        """How long the rest of the study will take, for its start; empty while that is not known."""
        remaining_s, forecast = self._remaining_s(), self._forecast
        if remaining_s is None:
            return ""
        trials, confirmations = forecast.trials - forecast.done, forecast.confirmations - forecast.confirmed
        confirming = f" and {confirmations} measurements to confirm the best of them" if confirmations > 0 else ""
        bounded = "" if self.deadline is None else ", within study.minutes"
        return f"{about(remaining_s)} for {trials} trials{confirming}{bounded}, until {_clock_in(remaining_s)}"

    def _result(self, record: TrialRecord) -> str:
        duration = f"[{record.seconds.get('total', 0):.0f} s]"
        if record.state != "completed":
            return f"{record.state}: {record.reason} {duration}"
        figures = "  ".join(f"{n} {figure(record.estimates[n])}" for n in self._metrics if n in record.estimates)
        violated = [name for name, violation in record.violations.items() if violation > 0]
        notes = [f"violates {', '.join(violated)}"] if violated else []
        notes += [f"cut short: {record.cut_short}"] if record.cut_short else []
        notes += [f"disturbed: {', '.join(record.disturbed)}"] if record.disturbed else []
        return "  ".join([figures, *notes]) + f" {duration}"

    def _state(self) -> str:
        """What is going on, for a log; with engines side by side, which trials they are at."""
        if self._live and self._live.is_started:
            return ""
        running = dict(self._running)
        if len(running) > 1:
            oldest_s = time.monotonic() - min(began for _, began in running.values())
            return f"  trials {', '.join(map(str, running))} are running, the first of them for {oldest_s:.0f} s"
        head = "".join(f"{name}: " for name, _ in running.values())
        return f"  {head}{self._since()}" if self._phase else ""

    def _since(self) -> str:
        return f"{self._phase}, {time.monotonic() - self._phase_began:.0f} s"

    def _view(self) -> Table | str:
        if not self._title and not self._phase:
            return ""
        table = Table.grid(padding=(0, 2))
        table.add_row(self._title)
        table.add_row(f"{self._since()} …   best so far: {self._best or 'none'}   {self._remaining()}")
        return table

    def _remaining(self) -> str:
        remaining_s = self._remaining_s()
        return "" if remaining_s is None else f"{about(remaining_s)} left, until {_clock_in(remaining_s)}"

    def _remaining_s(self) -> float | None:
        """The expected time to the end of the study, its confirmation included; None while it is not known."""
        left_s = None if self.deadline is None else self.deadline - time.monotonic()
        return self._forecast.remaining_s(self._confirming, left_s)


def _clock_in(seconds: float) -> str:
    now = time.time()
    return clock_at(now + seconds, now)
