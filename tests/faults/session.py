"""How a command has ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a command.

    Attributes:
        code: Exit code; -1 where an exception came through.
        out: Standard output.
        err: Standard error; the traceback of an exception that came through.
    """

    code: int
    out: str
    err: str

    def complaint(self) -> str:
        """What is wrong with how it ended, for a user; empty if nothing is."""
        if self.code not in (0, 1, 2, 130) or "Traceback" in self.out + self.err:
            return f"exit code {self.code}: {self.err or self.out}"
        errors = [line for line in self.err.strip().splitlines() if not line.startswith("warning: ")]
        if self.code == 0:
            return f"a success that complains: {self.err}" if errors else ""
        is_one_line = self.err and len(errors) <= 1 and all(line.startswith("error: ") for line in errors)
        return "" if is_one_line else f"not one line: {self.err!r}"
