"""Interference with a measurement: other programs, other guests of the host, throttling, a slowed GPU."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from objectives import Measurement
from optimize.config.measuring import Guard
from optimize.engine.process import cpu_seconds
from optimize.hardware import whole_gpus
from optimize.load.refusals import THROTTLED

_STAT = Path("/proc/stat")
_CGROUPS = (  # version 2 and version 1, with the unit of its counter
    (Path("/sys/fs/cgroup/cpu.stat"), "throttled_usec", 1e-6),
    (Path("/sys/fs/cgroup/cpu/cpu.stat"), "throttled_time", 1e-9),
)
_USER, _NICE, _SYSTEM, _STEAL = 0, 1, 2, 7
_LIMITS = {
    "steal": ("steal_max", "the host withheld {:.0%} of the processors"),
    "other_cores": ("other_cores_max", "other programs used {:.0%} of the processors"),
    "throttled": ("throttled_max", "this container was throttled for {:.0%} of the time"),
    "gpu_slowed": ("gpu_slowed_max", "a GPU was slowed down, by heat or by its power supply, for {:.0%} of the time"),
}

Counters = dict[str, float]
Read = Callable[[Sequence[int], Sequence[int]], Counters]


class Machine:
    """Readings of the machine, each the change since the previous one.

    They cover the processors that this process may use and no others: an engine confined to other processors is no
    disturbance, and one that strays onto these is.

    Args:
        own: Returns the process ids of the engine and the clients; this process is added.
        read: Reads the counters for these processors and process ids.
    """

    def __init__(self, own: Callable[[], Iterable[int]], read: Read | None = None) -> None:
        self._own, self._counters = own, read or read_counters
        self._cpus = sorted(os.sched_getaffinity(0))
        self._gpus = whole_gpus()
        self._last = self._read()

    def sample(self) -> dict[str, float]:
        """Readings by name; those that the machine does not report are left out.

        Shares since the last call, 0 to 1: `steal` and `other_cores` of all cores, `throttled` of the time. The state
        of the GPUs: `gpu_slowed` (0 or 1), `gpu_temperature_c` of the hottest, `gpu_clock_mhz` of the slowest.
        """
        last, self._last = self._last, self._read()
        change = {name: value - last[name] for name, value in self._last.items() if name in last}
        seconds = change.pop("clock")
        if seconds <= 0:
            return {}
        shares: dict[str, float] = {}
        if "busy" in change:
            shares["steal"] = change["steal"] / seconds / len(self._cpus)
            # A process that ended takes its seconds along, so differences may be negative.
            shares["other_cores"] = max(0.0, change["busy"] - max(0.0, change["own"])) / seconds / len(self._cpus)
        if "throttled" in change:
            shares["throttled"] = change["throttled"] / seconds
        return shares | (_gpu_state(self._gpus) if self._gpus else {})

    def _read(self) -> Counters:
        return self._counters(self._cpus, [os.getpid(), *self._own()])


def read_counters(cpus: Sequence[int], pids: Sequence[int]) -> Counters:
    """Seconds since some moment: `clock`; `busy` and `steal` of the processors, `own` of the processes; `throttled`.

    Counters that the machine does not report are left out.
    """
    return {"clock": time.monotonic(), **_processors(cpus, pids), **_throttling()}


def _processors(cpus: Sequence[int], pids: Sequence[int]) -> Counters:
    try:
        ticks = _ticks(_STAT.read_text(), cpus)
    except (OSError, ValueError):
        return {}
    # Without interrupts, which count the packets of the load itself.
    busy, tick_s = ticks[_USER] + ticks[_NICE] + ticks[_SYSTEM], 1 / os.sysconf("SC_CLK_TCK")
    return {"busy": busy * tick_s, "steal": ticks[_STEAL] * tick_s, "own": cpu_seconds(pids)}


def _ticks(stat: str, cpus: Sequence[int]) -> list[int]:
    """Sums of the columns of /proc/stat over some processors.

    Raises:
        ValueError: none of them is listed.
    """
    names = {f"cpu{number}" for number in cpus}
    rows = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    counted = [[int(n) for n in row[1:]] for row in rows if row[0] in names]
    if not counted:
        raise ValueError("no such processors")
    return [sum(column) for column in zip(*counted, strict=True)]


def disturbances(measurement: Measurement, guard: Guard) -> list[str]:
    """Disturbances of the window beyond the limits of the guard, in words; a rate limit of the endpoint is one, too."""
    samples = {series: measurement.samples(series) for series in _LIMITS}
    shares = {series: fmean(values) for series, values in samples.items() if values}
    return [*exceeded(shares, guard), *_turned_away(measurement)]


def _turned_away(measurement: Measurement) -> list[str]:
    due = measurement.due_in_window
    count = sum(record.error == THROTTLED for record in due)
    remedy = "ask for less at once, or wait as long as it says: load.honour_retry_after=true"
    return [f"the endpoint throttled {count} of {len(due)} requests ({remedy})"] if count else []


def exceeded(shares: Mapping[str, float], guard: Guard) -> list[str]:
    """Readings of `Machine` beyond the limits of the guard, in words."""
    return [
        f"{words.format(shares[series])} (load.guard.{limit}={getattr(guard, limit):g})"
        for series, (limit, words) in _LIMITS.items()
        if shares.get(series, 0.0) > getattr(guard, limit)
    ]


def _throttling() -> Counters:
    for path, counter, unit_s in _CGROUPS:
        try:
            return {"throttled": int(dict(line.split() for line in path.read_text().splitlines())[counter]) * unit_s}
        except (OSError, ValueError, KeyError):
            continue
    return {}


def _gpu_state(gpus: Sequence[object]) -> dict[str, float]:
    """Temperature of the hottest GPU, clock of the slowest, and whether any is slowed, as far as the GPUs report them.

    A GPU counts as slowed by heat or by the power supply; its own power cap does not count, for it always applies.
    """
    import pynvml

    bad = (
        pynvml.nvmlClocksEventReasonHwSlowdown
        | pynvml.nvmlClocksEventReasonSwThermalSlowdown
        | pynvml.nvmlClocksEventReasonHwThermalSlowdown
        | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
    )
    readings: dict[str, Callable[[object], float]] = {
        "gpu_slowed": lambda gpu: float(bool(pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu) & bad)),
        "gpu_temperature_c": lambda gpu: float(pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)),
        "gpu_clock_mhz": lambda gpu: float(pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
    }
    state: dict[str, float] = {}
    for name, read in readings.items():
        worst = min if name == "gpu_clock_mhz" else max
        with contextlib.suppress(pynvml.NVMLError):
            state[name] = worst(read(gpu) for gpu in gpus)
    return state
