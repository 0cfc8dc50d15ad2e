"""What the scripts do before Python runs: a driver that stands for nvidia-smi, and none of the 8 GB of an install."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def ready(folder: Path, answer: str) -> subprocess.CompletedProcess[str]:
    """The check of the driver, with a program that answers in its place."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
    program.chmod(0o755)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", ". scripts/_env; driver_ready; echo ready"], cwd=ROOT, check=False,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}, capture_output=True, text=True,
    )  # fmt: skip


def test_a_driver_that_is_too_old_is_refused_in_one_line(tmp_path: Path) -> None:
    refused = ready(tmp_path, "echo 535.183.01; echo 535.183.01")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "NVIDIA driver 535.183.01 is too old for CUDA 13, which requirements/gpu.txt is built for: install driver 580 "
        "or newer.\n"
    )


@pytest.mark.parametrize("answer", ["echo 580.95.05", "echo 601.1", "echo 'no devices'; exit 6"])
def test_a_driver_that_is_new_enough_or_says_nothing_is_none_of_the_scripts_business(
    answer: str, tmp_path: Path
) -> None:
    assert ready(tmp_path, answer).stdout == "ready\n"
