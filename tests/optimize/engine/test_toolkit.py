"""Compilers of the environment are found by engines of an environment that nobody activated."""

from __future__ import annotations

import sys
from pathlib import Path

from optimize.engine.toolkit import compilers
from optimize.engine.vllm import VllmLauncher


def compiler(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "nvcc").touch()
    return folder


def test_an_engine_finds_what_is_installed_beside_its_python(tmp_path: Path) -> None:
    home = compiler(tmp_path / "nvidia/cu13/bin").parent
    result = compilers({"PATH": "/usr/bin"}, tmp_path)
    assert result == {"PATH": f"/usr/bin:{Path(sys.executable).parent}", "CUDA_HOME": str(home)}
    assert "CUDA_HOME" not in compilers({"PATH": "/usr/bin"}, tmp_path / "empty")
    assert str(Path(sys.executable).parent) in VllmLauncher()._environment("key")["PATH"].split(":")


def test_a_toolkit_of_the_users_own_comes_first(tmp_path: Path) -> None:
    compiler(tmp_path / "nvidia/cu13/bin")
    own = compiler(tmp_path / "cuda/bin")
    for environment in ({"PATH": str(own)}, {"CUDA_HOME": "/opt/cuda"}, {"CUDA_PATH": "/opt/cuda"}):
        assert "CUDA_HOME" not in compilers(environment, tmp_path)
