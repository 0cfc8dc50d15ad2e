"""Compilers that come with the environment: FlashInfer compiles kernels with ninja and nvcc, and looks on the PATH."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

_HOMES = ("CUDA_HOME", "CUDA_PATH")
_WHEELS = "nvidia/*/bin/nvcc"
"""Compiler of the wheel nvidia-cuda-nvcc, within site-packages."""


def compilers(
    environment: Mapping[str, str], packages: Path | None = None, python: str = sys.executable
) -> dict[str, str]:
    """Variables by which an engine finds ninja and nvcc where the environment has them.

    An environment that nobody activated is not on the PATH. A CUDA toolkit that the user names, or that is on the PATH,
    comes first.

    Args:
        environment: The variables so far.
        packages: Folder of the installed packages; that of this Python by default.
        python: Interpreter of the environment.
    """
    path = environment.get("PATH", os.defpath)
    variables = {"PATH": os.pathsep.join([path, str(Path(python).parent)])}
    compiler = next(iter(sorted((packages or Path(sysconfig.get_path("purelib"))).glob(_WHEELS))), None)
    has_own = any(environment.get(name) for name in _HOMES) or any(
        (Path(folder) / "nvcc").is_file() for folder in path.split(os.pathsep) if folder
    )
    return variables if compiler is None or has_own else {**variables, _HOMES[0]: str(compiler.parents[1])}
