"""Studies on the simulated engine that several tests read: made once, whoever asks first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
QUICK = [
    "engine=simulated", "engine.token_s=0.0005", "search_space.quantization=null", "search_space.workers=null",
    "study.trials=2", "sampler=random", "confirm.candidates=1", "confirm.rounds=2",
    "load.warmup_s=0.1", "load.warmup_requests=4", "load.window_min_s=0.5", "load.window_requests=10",
    "load.window_max_s=30", "load.precision={}", "constraints=none",
    "load.guard={repeats: 0, steal_max: 1, other_cores_max: 1, throttled_max: 1, drift_p: 0}",
    "load.guard.send_lag_p99_max_s=60", "load.guard.client_cpu_max=2",
]  # fmt: skip
"""Overrides that make any of the demo's studies a matter of seconds; its figures are no measurements."""
STUDIES = {
    "chat": ["+study=chat"],
    "bulk": ["+study=bulk", "load.arrivals.users=4"],
    "abtest": ["+study=abtest", "load.arrivals.rate_per_s=40"],
    "chat-other": ["+study=chat", "study.name=chat-other", "model.name=other"],
}


def made(shared: Path) -> Path:
    """An output folder with one study per name of STUDIES; test workers of one session share it."""
    out = shared / "made"
    with FileLock(shared / "made.lock"):
        if not (out / "done").is_file():
            for overrides in STUDIES.values():
                run(out, overrides)
            (out / "done").write_text(json.dumps(list(STUDIES)))
    return out


def run(out: Path, overrides: list[str]) -> str:
    """One study, as a user would run it; returns what it printed."""
    command = [sys.executable, "-m", "optimize", *overrides, *QUICK]
    command += [f"output_dir={out}", f"cache_dir={out}/cache"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
