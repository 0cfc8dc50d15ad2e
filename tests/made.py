"""Studies on the simulated engine that several tests read: made once, in one process, by whoever asks first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
QUICK = [
    "engine=simulated", "engine.token_s=0.004", "search_space.quantization=null", "search_space.workers=null",
    "study.trials=2", "sampler=random", "confirm.candidates=1", "confirm.rounds=2",
    "load.warmup_s=0.1", "load.warmup_requests=4", "load.window_min_s=1.5", "load.window_requests=10",
    "load.window_max_s=30", "load.precision={}", "constraints=none",
    "load.guard={repeats: 0, steal_max: 1, other_cores_max: 1, throttled_max: 1, drift_p: 0}",
    "load.guard.send_lag_p99_max_s=60", "load.guard.client_cpu_max=2",
]  # fmt: skip
"""Overrides that make any of the demo's studies a matter of seconds; its figures are no measurements."""
STUDIES = [
    ["+study=chat", *QUICK],
    ["+study=bulk", *QUICK, "load.arrivals.users=4", "confirm.candidates=0"],
    ["+study=abtest", *QUICK, "load.arrivals.rate_per_s=40", "confirm.candidates=0"],
    ["+study=chat", "study.name=chat-other", "model.name=other", *QUICK, "confirm.candidates=0"],
]


def made(shared: Path) -> Path:
    """An output folder with all of STUDIES; test workers of one session share it."""
    out = shared / "made"
    with FileLock(shared / "made.lock"):
        if not (out / "done").is_file():
            done = subprocess.run(
                [sys.executable, "-m", "tests.made", str(out)], cwd=ROOT, capture_output=True, text=True, check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            (out / "done").touch()
    return out


def _make(out: str) -> None:
    from optimize.__main__ import main

    for overrides in STUDIES:
        sys.argv = ["optimize", *overrides, f"output_dir={out}", f"cache_dir={out}/cache"]
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise


if __name__ == "__main__":
    _make(sys.argv[1])
