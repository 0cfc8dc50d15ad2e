"""The vLLM of another environment: what its interpreter says of it, checked before any engine starts.

Nothing of vLLM is imported, which would take ten seconds. Engines run this project's own modules in that environment
(`optimize.engine.serve`, `fork_server`, `gate`, `worker_extension`), which need no package that vLLM does not bring.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from optimize.engine.flags import DISTRIBUTIONS, Installation
from optimize.engine.source_check import outline, starts
from optimize.errors import ConfigError
from optimize.files import SOURCE, python_path

_OLDEST = (3, 11)
_TIMEOUT_S = 60.0
_REMEDY = "give the interpreter of an environment that has vLLM, e.g. /opt/vllm/bin/python"
_PACKAGES = ("optimize", "objectives")
_PROGRAM = """
import importlib.metadata, importlib.util, json, sys
spec = importlib.util.find_spec("vllm")
versions = {}
for name in sys.argv[1:]:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
folders = list(spec.submodule_search_locations or []) if spec else []
print(json.dumps({"python": sys.version_info[:2], "folders": folders, "versions": versions}))
"""
"""What another interpreter is asked: standard library alone, of any Python 3."""


@cache
def installation(python: str, key: str) -> Installation:
    """The vLLM of another environment.

    Args:
        python: Its interpreter.
        key: The setting that names it, for messages.

    Raises:
        ConfigError: no interpreter, none with vLLM, or one of a release that cannot be started here.
    """
    program, named = _program(python, key), f"{key}={python}"
    raw = _report(program, named)
    if tuple(raw["python"]) < _OLDEST:
        raise ConfigError(f"{named} is Python {_dotted(raw['python'])}: engines need {_dotted(_OLDEST)} or later")
    if not raw["folders"]:
        raise ConfigError(f"{named} has no vLLM: install it there, or name the interpreter of an environment with vLLM")
    root = Path(raw["folders"][0])
    distribution, version = next(iter(raw["versions"].items()), (DISTRIBUTIONS[0], "unknown"))
    if not starts(outline(root)):
        raise ConfigError(f"{named} has vLLM {version}, which cannot be started from here: take vLLM 0.25 or later")
    return Installation(program, root, distribution, version)


def _program(python: str, key: str) -> str:
    """The interpreter's absolute path; not that of what it links to, which knows nothing of the environment."""
    program = shutil.which(Path(python).expanduser())
    if program is None:
        raise ConfigError(f"{key}={python} is no program that can be run: {_REMEDY}")
    return str(Path(program).absolute())


def _report(program: str, named: str) -> dict[str, Any]:
    """What the interpreter says of itself."""
    try:
        done = subprocess.run(
            [program, "-c", _PROGRAM, *DISTRIBUTIONS], cwd="/", capture_output=True, text=True, timeout=_TIMEOUT_S,
            check=True,
        )  # fmt: skip
        raw: dict[str, Any] = json.loads(done.stdout)
    except OSError as error:
        raise ConfigError(f"{named} cannot be run ({error.strerror}): {_REMEDY}") from error
    except (subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(f"{named} does not answer as a Python does: {_REMEDY}") from error
    return raw


def _dotted(version: Any) -> str:
    return ".".join(map(str, version))


def path_to_this_package(python: str | None) -> str:
    """PYTHONPATH by which an interpreter imports this project's packages; None for the interpreter of this process.

    Where they are installed among others, another environment sees them alone: the others are of this one.
    """
    own = python_path()
    if python is None or str(SOURCE) in own.split(":"):
        return own
    return ":".join(filter(None, [_alone(), own]))


@cache
def _alone() -> str:
    """A folder with links to this project's packages, for as long as this process lives."""
    _keep.append(folder := tempfile.TemporaryDirectory(prefix="optimize-packages-"))
    for name in _PACKAGES:
        (Path(folder.name) / name).symlink_to(SOURCE / name)
    return folder.name


_keep: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that are removed when this process ends."""
