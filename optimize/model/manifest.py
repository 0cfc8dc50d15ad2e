"""The manifest of a checkpoint: what it was made from, and the size and hash of each of its files.

It is written last, into a folder that is then renamed: where it is missing, making was interrupted. Where a file
differs from it, the file was changed since. Neither is served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from optimize.entries import MARK

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts, and size and hash of every file in the folder."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (MANIFEST, MARK)
    }
    (folder / MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=1), encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete checkpoint."""
    loaded: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return loaded


def damage(folder: Path) -> str | None:
    """Why a checkpoint must not be served; None if it is complete.

    Sizes are compared each time, contents once per process and time of the last change.
    """
    try:
        files = dict(read_manifest(folder)["files"])
    except FileNotFoundError:
        return "it is not finished"
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {MANIFEST} is broken"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        state = path.stat()
        if state.st_size != expected["bytes"]:
            return f"{name} has {state.st_size} bytes instead of {expected['bytes']}"
        if _sha256_once(path, state.st_size, state.st_mtime_ns) != expected["sha256"]:
            return f"{name} has other contents than when it was made"
    return None


@cache
def _sha256_once(path: Path, size: int, mtime_ns: int) -> str:
    """Cached by size and time of the last change too, so that a changed file is read again."""
    return _sha256(path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
