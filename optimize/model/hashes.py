"""Hashes of large models, kept in the cache until one of their files changes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from optimize.checkpoint import content_hash, file_states, folder_on_disk, hash_of_files, remember_hash
from optimize.entries import claim, read_kept
from optimize.files import write_atomically
from optimize.ticker import Ticker

KIND = "hashes"
"""Folder of these entries in the cache."""
KEPT_BYTES = 256 << 20
"""Size from which a hash is kept: less is read again faster than anybody notices."""
_SETTLED_NS = 2 * 10**9  # coarser than the clock of any file system
_FILE, _PERIOD_S, _GB = "hash.json", 10.0, 1e9
States = list[list[str | int]]
_STATES: dict[Path, tuple[States, str]] = {}
"""Folder -> the states of its files and its hash, as this process has seen them."""


def model_hash(
    model: str, cache_folder: Path, say: Callable[[str], None] = print, kept_bytes: int = KEPT_BYTES,
    now_ns: Callable[[], int] = time.time_ns,
) -> str:  # fmt: skip
    """As `optimize.checkpoint.content_hash`; a large model is read only where a file of it has changed.

    Args:
        model: Folder or Hugging Face id.
        cache_folder: Root of the cache.
        say: Called with lines for people while much is read.
        kept_bytes: See `KEPT_BYTES`.
        now_ns: Unix time in nanoseconds.
    """
    folder, began_ns = folder_on_disk(model), now_ns()
    states = file_states(folder) if folder is not None else []
    size = sum(int(state[1]) for state in states)
    if folder is None or size < max(kept_bytes, 1):
        return content_hash(model)
    if _STATES.get(folder, ([], ""))[0] != states:
        _STATES[folder] = states, _kept_or_read(folder, cache_folder, size, say, began_ns)
        remember_hash(folder, _STATES[folder][1])
    return _STATES[folder][1]


def _kept_or_read(folder: Path, cache_folder: Path, size: int, say: Callable[[str], None], began_ns: int) -> str:
    states = file_states(folder)
    path = claim(cache_folder / KIND / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]) / _FILE
    record = read_kept(path)
    if isinstance(record, dict) and record.get("files") == states and "hash" in record:
        return str(record["hash"])
    digest = _read(folder, size, say)
    if _is_settled(states, began_ns) and file_states(folder) == states:
        write_atomically(path, json.dumps({"files": states, "hash": digest}))
    return digest


def _read(folder: Path, size: int, say: Callable[[str], None]) -> str:
    """Read all files, and say how far that has got."""
    pieces: list[int] = []  # appended to by several threads
    reading = f"reading the {size / _GB:.1f} GB of {folder}, once until they change"
    ticker = Ticker(lambda: say(f"{reading}: {sum(pieces) / size:.0%}"), _PERIOD_S, "reading the model")
    ticker.start()
    try:
        return hash_of_files(folder, pieces.append)
    finally:
        ticker.stop()


def _is_settled(states: States, began_ns: int) -> bool:
    """Whether the last change is so long ago that another one would show in the files' times."""
    return began_ns - max(int(time_ns) for state in states for time_ns in state[3:]) > _SETTLED_NS
