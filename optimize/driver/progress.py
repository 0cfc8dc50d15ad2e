"""What a person sees while the study runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from optimize.formatting import figure
from optimize.ledger import TrialRecord
from optimize.outcome import Role


class Progress:
    """Shows phases and results; a context manager.

    Args:
        total: Trials in the budget, the baseline included.
        shown: Metrics to show per trial.
        deadline: `time.monotonic()` at which the time budget ends; None without one.
    """

    def __init__(self, total: int, shown: list[str], deadline: float | None = None) -> None:
        self._total, self._done, self._shown, self.deadline = total, 0, shown, deadline
        self._console = Console(highlight=False)
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
        """So many trials of the budget are there already."""
        self._done = done

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, markup=False, soft_wrap=True)

    def trial(self, record: TrialRecord) -> None:
        """Show what is tried now."""
        settings = "vLLM defaults" if record.baseline else " ".join(f"{k}={v}" for k, v in record.params.items())
        self._confirming = record.role == Role.CONFIRMATION
        if self._confirming:
            self._title = f"trial {record.number}, confirming trial {record.confirms}: {settings}"
        else:
            self._title = f"trial {record.number} ({self._done + 1} of {self._total}): {settings}"
        if not self._live:
            self.say(self._title)

    def phase(self, name: str) -> None:
        self._phase, self._phase_began = name, time.monotonic()
        if self._live:
            self._live.update(self._table(), refresh=True)

    def finished(self, record: TrialRecord, counts: bool, best: Callable[[], str]) -> None:
        """Show a trial's result; `counts` is whether it uses up budget, `best` is asked where it is shown."""
        self._measured += counts
        self._done += counts
        self._best = best() if self._live else ""
        self.say(f"  trial {record.number}: {self._result(record)}")

    def _result(self, record: TrialRecord) -> str:
        took = f"[{record.seconds.get('total', 0):.0f} s]"
        if record.state != "completed":
            return f"{record.state}: {record.reason} {took}"
        figures = "  ".join(f"{n} {figure(record.estimates[n])}" for n in self._shown if n in record.estimates)
        broken = [name for name, v in record.violations.items() if v > 0]
        notes = [f"breaks {', '.join(broken)}"] if broken else []
        notes += [f"cut short: {record.cut_short}"] if record.cut_short else []
        notes += [f"disturbed: {', '.join(record.disturbed)}"] if record.disturbed else []
        return "  ".join([figures, *notes]) + f" {took}"

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row(self._title)
        table.add_row(f"{self._phase} …   best so far: {self._best or 'none'}   {self._left()}")
        return table

    def _left(self) -> str:
        if not self._measured or self._confirming:
            return ""
        per_trial = (time.monotonic() - self._began) / self._measured
        left = per_trial * (self._total - self._done)
        if self.deadline is not None:
            left = min(left, self.deadline - time.monotonic())
        return f"about {max(0.0, left) / 60:.0f} min left"
