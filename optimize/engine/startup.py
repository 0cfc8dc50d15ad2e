"""The phases of an engine's start, read from its log as it grows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from optimize.engine.log_text import plain
from optimize.ticker import Ticking

Phase = Callable[[str], None]
PROCESSES, LOADING, COMPILING, WARMING, CAPTURING, OPENING = PHASES = (
    "starting processes", "loading weights", "compiling", "warming up", "capturing graphs", "opening the server",
)  # fmt: skip
"""In the order in which vLLM goes through them; a start without compilation or graphs leaves those out."""
_LINES = (
    # Line of vLLM's log, with the releases that write it -> the phase that begins with it.
    (r"Starting to load model ", LOADING),  # 0.25 to 0.33
    (r"Model loading took ", COMPILING),  # 0.25 to 0.33, CUDA; Dynamo then traces in silence
    (r"Using cache directory: .* for vLLM's torch\.compile|Dynamo bytecode transform time", COMPILING),  # the same
    (r"Warming up model for the compilation", COMPILING),  # 0.25 to 0.33, CPU
    (r"torch\.compile took .* in total|torch\.compile takes .* in total", WARMING),  # 0.25 to 0.33, CUDA
    (r"saved AOT compiled function|Directly load AOT compilation", WARMING),  # 0.26 to 0.33, with torch 2.10
    (r"Initial profiling/warmup run took|Warming up done\.", WARMING),  # 0.25 to 0.33; the second on CPU
    (r"Capturing CUDA graph", CAPTURING),  # 0.25 to 0.33: a progress bar
    (r"init engine \(profile, create kv cache, warmup model\) took", OPENING),  # 0.25 to 0.33
)
_BEGINS = [(re.compile(pattern), phase) for pattern, phase in _LINES]
_EAGER = re.compile(r"\benforce_eager=True|'enforce_eager': True")
_PERIOD_S = 0.25
_KEY = "engine_start."


class Startup:
    """The phases that a log has shown so far; several processes write it, and the first to get on leads.

    Attributes:
        phase: The present phase.
        seconds: Phase -> seconds that it took, those that have ended.
    """

    def __init__(self, now: float) -> None:
        self.phase, self.seconds = PROCESSES, dict[str, float]()
        self._began, self._eager = now, False

    def read(self, line: str, now: float) -> bool:
        """Take in a line; whether a phase begins with it.

        Args:
            line: A line of the log.
            now: The time at which it was written, in seconds.
        """
        self._eager = self._eager or bool(_EAGER.search(line))
        phase = next((phase for pattern, phase in _BEGINS if pattern.search(line)), self.phase)
        if phase == COMPILING and self._eager:
            phase = WARMING
        if PHASES.index(phase) <= PHASES.index(self.phase):
            return False
        self.end(now)
        self.phase = phase
        return True

    def end(self, now: float) -> None:
        """End the present phase."""
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self._began
        self._began = now


class LogFollower(Ticking):
    """Follows a log while an engine starts; a context manager, which knows all phases at its end.

    Args:
        path: The log, which need not exist yet; one that is begun anew is read from its beginning.
        phase: Called with each phase that begins.
        clock: Tells the time in seconds.
    """

    def __init__(self, path: Path, phase: Phase, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._phase, self._clock = path, phase, clock
        self._startup = Startup(clock())
        self._offset, self._rest = 0, ""
        super().__init__(self.follow, _PERIOD_S, "log of the engine's start")

    def _settle(self) -> None:
        self.follow()
        self._startup.end(self._clock())

    @property
    def seconds(self) -> dict[str, float]:
        """Phase -> seconds, of a log that showed phases; empty for an engine that has none."""
        seconds = self._startup.seconds
        return dict(seconds) if len(seconds) > 1 else {}

    def follow(self) -> None:
        """Read what the log has gained."""
        now = self._clock()
        *lines, self._rest = re.split(r"[\r\n]", self._rest + self._gained())
        for line in lines:
            if self._startup.read(plain(line), now):
                self._phase(self._startup.phase)

    def _gained(self) -> str:
        try:
            with open(self._path, "rb") as log:
                if log.seek(0, 2) < self._offset:
                    self._offset, self._rest, self._startup = 0, "", Startup(self._clock())
                log.seek(self._offset)
                gained = log.read()
        except OSError:
            return ""
        self._offset += len(gained)
        return gained.decode(errors="replace")


def keyed(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of a start's phases under the keys of a trial's record, e.g. "engine_start.loading_weights"."""
    return {_KEY + phase.replace(" ", "_"): taken_s for phase, taken_s in seconds.items()}


def phases_in(seconds: Mapping[str, float]) -> dict[str, float]:
    """Phase of the start -> seconds, from the seconds of a trial's record."""
    return {key.removeprefix(_KEY).replace("_", " "): taken_s for key, taken_s in seconds.items() if _KEY in key}


def phase_of(log: str) -> str:
    """The phase that a log has got to."""
    startup = Startup(0.0)
    for line in log.splitlines():
        startup.read(line, 0.0)
    return startup.phase
