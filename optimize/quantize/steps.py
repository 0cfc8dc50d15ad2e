"""Progress bar of one checkpoint: its current step, and the share of calibration done."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from optimize.formatting import terminal
from optimize.quantize.compress import STEPS


class Steps:
    """A context manager; on anything but a terminal, one line per step.

    Args:
        name: The recipe's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._console = terminal()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=self._console, disable=not self._console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(f"{name}: importing llm-compressor", total=len(STEPS) + 1, detail="")

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def event(self, event: dict[str, Any]) -> None:
        """Show a step of the child process."""
        if "share" in event:
            self._bar.update(self._task, detail=f"{event['share']:.0%} of the samples")
            return
        step = event["step"]
        done = STEPS.index(step) + 1 if step in STEPS else len(STEPS) + 1
        self._bar.update(self._task, completed=done, description=f"{self._name}: {step}", detail="")
        if not self._console.is_terminal:
            self.say(f"{self._name}: {step}")
