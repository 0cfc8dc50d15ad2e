"""Progress of a study: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.live import Live
from rich.table import Table

from optimize.formatting import figure, terminal
from optimize.ledger import TrialRecord
from optimize.outcome import Role


class Progress:
    """Shows phases and results; a context manager.

    Args:
        total: Trials in the budget, the baseline included.
        metrics: Metrics to show for each trial.
        deadline: `time.monotonic()` at which the time budget ends; None without one.
    """

    def __init__(self, total: int, metrics: list[str], deadline: float | None = None) -> None:
        self._total, self._done, self._metrics, self.deadline = total, 0, metrics, deadline
        self._console = terminal()
        self._live = Live(console=self._console, refresh_per_second=2) if self._console.is_terminal else None
        self._began, self._measured = time.monotonic(), 0
        self._title, self._phase, self._phase_began = "", "", time.monotonic()
        self._best, self._confirming = "", False

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update("")
            self._live.stop()

    def resume(self, done: int) -> None:
        """Start from this number of trials of the budget."""
        self._done = done

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, soft_wrap=True)

    def trial(self, record: TrialRecord) -> None:
        """Show the trial that begins."""
        settings = "vLLM's defaults" if record.baseline else " ".join(f"{k}={v}" for k, v in record.params.items())
        self._confirming = record.role == Role.CONFIRMATION
        if self._confirming:
            self._title = f"trial {record.number}, confirming trial {record.confirms}: {settings}"
        else:
            self._title = f"trial {record.number} ({self._done + 1} of {self._total}): {settings}"
        if not self._live:
            self.say(self._title)

    def phase(self, name: str) -> None:
        """Show the phase that begins, on a terminal."""
        self._phase, self._phase_began = name, time.monotonic()
        if self._live:
            self._live.update(self._table(), refresh=True)

    def finished(self, record: TrialRecord, counts: bool, best: Callable[[], str]) -> None:
        """Show the result of a trial.

        Args:
            record: The trial.
            counts: Whether it uses up budget.
            best: Describes the best trial so far; called on a terminal only.
        """
        self._measured += counts
        self._done += counts
        self._best = best() if self._live else ""
        self.say(f"  trial {record.number}: {self._result(record)}")

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

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row(self._title)
        table.add_row(f"{self._phase} …   best so far: {self._best or 'none'}   {self._remaining()}")
        return table

    def _remaining(self) -> str:
        """The expected time to the end of the budget; empty while it is not known."""
        if not self._measured or self._confirming:
            return ""
        per_trial = (time.monotonic() - self._began) / self._measured
        seconds = per_trial * (self._total - self._done)
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - time.monotonic())
        return f"about {max(0.0, seconds) / 60:.0f} min left"
