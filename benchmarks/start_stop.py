"""Starts and stops many engines of random configurations, some of them doomed or killed, and counts leftovers.

Usage: python -m benchmarks.start_stop [--cycles 100]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.common import RESULTS, provenance, require_quiet
from optimize.config.compose import configuration
from optimize.engine.base import EngineConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import EngineFailure

FATES = ("stopped", "stopped", "stopped", "refused", "killed", "killed at start")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Leftovers that an engine could cause.

    Attributes:
        processes: Descendants of this process, the preloaded one left out.
        ports: Listening on loopback, held by descendants.
        shared_memory: Segments in /dev/shm.
        scratch: Engine folders in the folder for temporary files.
        own_mib: Proportional memory of this process and the preloaded one.
    """

    processes: int
    ports: int
    shared_memory: int
    scratch: int
    own_mib: float


def leftovers() -> Leftovers:
    family = psutil.Process().children(recursive=True)
    preloaded = [p for p in family if "optimize.engine.fork_server" in " ".join(p.cmdline())]
    mine = [psutil.Process(), *preloaded[:1]]
    return Leftovers(
        processes=len(family) - len(preloaded[:1]),
        ports=sum(c.status == "LISTEN" for p in family for c in p.net_connections("tcp")),
        shared_memory=len(os.listdir("/dev/shm")),
        scratch=len(list(Path(tempfile.gettempdir()).glob("engine-*"))),
        own_mib=sum(p.memory_full_info().pss for p in mine) / 2**20,
    )


def cycle(launcher: VllmLauncher, base: EngineConfig, fate: str, rng: random.Random, log: Path) -> tuple[float, float]:
    """One engine's life; returns the seconds of its start (or failure) and of its stop."""
    flags = {**dict(base.flags), "max_num_seqs": rng.choice([1, 8, 64]), "api_server_count": rng.choice([1, 1, 2])}
    if fate == "refused":
        flags["num_gpu_blocks_override"] = 1
    config = EngineConfig(base.checkpoint, base.quantization, tuple(flags.items()))
    began = time.monotonic()
    killer = threading.Timer(0.3 + rng.random(), _kill_one, [rng])
    if fate == "killed at start":
        killer.start()
    try:
        engine = launcher.launch(config, log)
    except EngineFailure:
        return time.monotonic() - began, 0.0
    finally:
        killer.cancel()
    start_s = time.monotonic() - began
    if fate == "killed":
        os.kill(rng.choice(engine.pids), signal.SIGKILL)
    stopping = time.monotonic()
    engine.stop()
    return start_s, time.monotonic() - stopping


def _kill_one(rng: random.Random) -> None:
    """Kill one process of the engine that is starting; all but the preloaded one, which is the first."""
    engine = psutil.Process().children(recursive=True)[1:]
    if engine:
        rng.choice(engine).kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=100)
    cycles = parser.parse_args().cycles
    require_quiet()
    config, rng = configuration(["+study=chat"]), random.Random(0)
    base = EngineConfig(config.model.path, "fp16", tuple({**config.model.flags, "dtype": "float16"}.items()))
    launcher = VllmLauncher(env=config.hardware.env, start="warm")
    launcher.prepare()
    fates, starts, stops = Counter[str](), list[float](), list[float]()
    worst = dict[str, int]()
    with tempfile.TemporaryDirectory() as folder:
        cycle(launcher, base, "stopped", rng, Path(folder) / "first")  # whatever is made once, is made now
        before = leftovers()
        for number in range(cycles):
            fate = rng.choice(FATES)
            start_s, stop_s = cycle(launcher, base, fate, rng, Path(folder) / str(number))
            fates[fate] += 1
            starts += [start_s] if fate == "stopped" else []
            stops += [stop_s] if stop_s else []
            after = leftovers()
            for name in ("processes", "ports", "shared_memory", "scratch"):
                worst[name] = max(worst.get(name, 0), getattr(after, name) - getattr(before, name))
            print(f"{number + 1} of {cycles}: {fate}, start {start_s:.1f} s, stop {stop_s:.1f} s, {after}", flush=True)
        after = leftovers()
    launcher.close()
    lines = [
        "| count | figure |", "|---|---|",
        f"| cycles | {cycles}: {', '.join(f'{n} {fate}' for fate, n in sorted(fates.items()))} |",
        f"| start, median and longest | {statistics.median(starts):.2f} s, {max(starts):.2f} s |",
        f"| stop until verified dead, median and longest | {statistics.median(stops):.2f} s, {max(stops):.2f} s |",
        *(f"| {name.replace('_', ' ')} left, worst after any cycle | {n} |" for name, n in worst.items()),
        f"| memory of this and the preloaded process | {before.own_mib:.0f} MiB, at last {after.own_mib:.0f} MiB |",
    ]  # fmt: skip
    print("\n".join(lines))
    head = "# Starting and stopping engines\n\n" + provenance(f"python -m benchmarks.start_stop --cycles {cycles}")
    (RESULTS / "start_stop.md").write_text("\n\n".join([head, "\n".join(lines)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
