"""Packages that hold data: installed from a lock of their own into the cache, and not into the user's environment."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from optimize.entries import draft, hold, publish, release, remove
from optimize.errors import ConfigError, one_line
from optimize.files import locked

KIND = "packages"
"""Folder of these entries in the cache."""
_PIP = (
    "import ctypes, runpy, signal; ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0); "
    "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
)
"""pip, ended by the kernel together with this process (PR_SET_PDEATHSIG): it would fill a folder that nobody reads."""
_OPTIONS = (
    "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes", "--only-binary=:all:",
    "--no-compile", "--no-cache-dir",
)  # fmt: skip
"""Without pip's own cache, which holds a whole download in memory."""


def pinned(requirements: Path) -> dict[str, str]:
    """Name -> version of the packages in a lock.

    Raises:
        ConfigError: there is no such file.
    """
    try:
        text = requirements.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"model.package.requirements={requirements} cannot be read ({one_line(error)}): "
            "give a file of pinned packages"
        ) from error
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))


def installed(requirements: Path, cache_folder: Path, say: Callable[[str], None]) -> Path:
    """The folder of a lock's packages in the cache; they are installed unless it is there.

    Args:
        requirements: The lock: every package pinned, with its hashes.
        cache_folder: Root of the cache.
        say: Called with a line for people when something is installed.

    Raises:
        ConfigError: the packages cannot be had.
    """
    packages = ", ".join(f"{name} {version}" for name, version in pinned(requirements).items())
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = cache_folder.resolve() / KIND / f"{requirements.stem}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / "lock"):
        if not hold(folder):
            say(f"installing {packages} into the cache")
            _install(requirements, folder, packages)
    return folder


def _install(requirements: Path, folder: Path, packages: str) -> None:
    partial = draft(folder)
    try:
        _run_pip(requirements, partial, packages)
    except BaseException:
        discard(partial)
        raise
    publish(partial, folder)


def _run_pip(requirements: Path, target: Path, packages: str) -> None:
    words = [sys.executable, "-c", _PIP, "install", *_OPTIONS, "--target", str(target), "-r", str(requirements)]
    pip = subprocess.run(
        words, env={**os.environ, "PIP_USER": "0"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    if pip.returncode:
        raise ConfigError(
            f"{packages} cannot be installed ({_reason(pip.stdout)}): give pip an index that has them "
            "(PIP_INDEX_URL) or a folder with their wheels (PIP_FIND_LINKS), or choose another model"
        )


def _reason(output: str) -> str:
    """The decisive line of pip's output: its last error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return ([*lines, *errors] or ["pip said nothing"])[-1][:300]


def discard(folder: Path) -> None:
    """Remove an entry that this process holds, unless another one holds it too."""
    release(folder)
    try:
        remove(folder)
    except BlockingIOError:
        return
