"""vLLM's CUDA build on a machine without a GPU, with stand-ins for NVIDIA's libraries that are built with gcc.

On request only: CUDA_PYTHON=/path/to/the/build's/python scripts/test -m cuda tests/cuda
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

_PYTHON = "CUDA_PYTHON"
_LIBRARIES = {"cuda.c": "libcuda.so.1", "nvml.c": "libnvidia-ml.so.1"}
collect_ignore_glob = [] if _PYTHON in os.environ else ["test_*.py"]


@dataclass(frozen=True)
class Rig:
    """Runs scripts with the CUDA build.

    Attributes:
        libraries: Folder of the stand-ins.
        scratch: Folder of what a script writes.
    """

    libraries: Path
    scratch: Path

    def run(self, script: str, *arguments: object, **variables: str) -> Any:
        """What a script prints as JSON in its last line.

        Args:
            script: Python source.
            arguments: Its arguments, which it gets as one JSON text.
            variables: Environment variables, among them those of the stand-ins.
        """
        search = os.pathsep.join([str(self.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
        done = subprocess.run(
            [os.environ[_PYTHON], "-c", script, json.dumps(arguments)], cwd=ROOT, text=True, timeout=600, check=False,
            capture_output=True,
            env={
                **os.environ, "LD_LIBRARY_PATH": search, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1",
                "VLLM_NO_USAGE_STATS": "1", "CUDA_STUB_LOG": str(self.calls), **variables,
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    @property
    def calls(self) -> Path:
        """File with the processes that have called cuInit, one a line."""
        return self.scratch / "cuInit"

    def callers(self) -> set[int]:
        """The processes that have called cuInit."""
        return set(map(int, self.calls.read_text(encoding="ascii").split())) if self.calls.exists() else set()


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libraries")
    for source, library in _LIBRARIES.items():
        path = Path(__file__).with_name(source)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(folder / library), str(path)], check=True)
    return folder


@pytest.fixture
def rig(libraries: Path, tmp_path: Path) -> Rig:
    return Rig(libraries, tmp_path)
