"""What became of the faults, counted by command and by the kind of what they struck, and printed as it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.faults.study import ALL

SURVIVED, RESUMED, LOST = "survived in the session", "went on with the same command", "lost"
_PACE = 20
"""Faults after which the figures so far are printed: a run that is cut short has printed them."""
_total: Counter[str] = Counter()


class Tally:
    """Counts the faults of one command.

    Args:
        command: What it is called.

    Attributes:
        counts: (kind of what was struck, how it ended) -> number of faults.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, kinds: Iterable[str], end: str) -> None:
        """Count faults of one session, which ended in one of the three ways."""
        before = self.counts.total()
        for kind in kinds:
            self.counts[kind, end] += 1
            _total[end] += 1
        if ALL and self.counts.total() // _PACE > before // _PACE:
            self._print("so far")

    def finish(self) -> None:
        """Print the figures of the command, and those of all commands of the run."""
        self._print("in all")
        for kind in sorted({kind for kind, _ in self.counts}) if ALL else ():
            print(f"  {kind}: {_in_words(Counter({end: n for (k, end), n in self.counts.items() if k == kind}))}")
        print(f"all commands so far: {_in_words(_total)}", flush=True)

    def _print(self, when: str) -> None:
        ends = Counter(dict.fromkeys((SURVIVED, RESUMED, LOST), 0))
        for (_, end), number in self.counts.items():
            ends[end] += number
        print(f"{self._command} {when}: {_in_words(ends)}", flush=True)


@contextmanager
def tallied(command: str) -> Iterator[Tally]:
    """A command's counts, printed however its test ends."""
    tally = Tally(command)
    try:
        yield tally
    finally:
        tally.finish()


def _in_words(ends: Counter[str]) -> str:
    return ", ".join([f"{ends.total()} injected", *(f"{ends[end]} {end}" for end in (SURVIVED, RESUMED, LOST))])
