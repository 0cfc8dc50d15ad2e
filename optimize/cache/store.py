"""The cache that studies share: quantized checkpoints, compiled kernels, data sets, token counts, references' scores.

`python -m optimize.cache` lists it, `... clear [checkpoints|compiled|datasets|perplexity|tokens ...]` removes it.
Every entry is named after the content and versions it was made from, so no entry goes stale; it can only go unused.
A study holds a shared lock on the entries it uses (released by the kernel however the study ends); an entry in use is
neither cleared nor evicted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

KINDS = ("checkpoints", "compiled", "datasets", "perplexity", "tokens")
_LOCKS = "locks"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the cache.

    Attributes:
        kind: One of `KINDS`.
        path: File or folder.
        size_bytes: All its files together.
        used_at: Unix time when a study last used it.
        in_use: Whether a study uses it now.
    """

    kind: str
    path: Path
    size_bytes: int
    used_at: float
    in_use: bool


def entries(root: Path) -> list[Entry]:
    """All entries of a cache, the least recently used first."""
    listed = []
    for kind in KINDS:
        paths = (root / kind).iterdir() if (root / kind).is_dir() else ()
        listed += [_entry(root, kind, path) for path in paths if path.name != "lock" and path.suffix != ".log"]
    return sorted(listed, key=lambda e: e.used_at)


def _entry(root: Path, kind: str, path: Path) -> Entry:
    lock = _lock_path(root, path)
    used_at = lock.stat().st_mtime if lock.exists() else path.stat().st_mtime
    return Entry(kind, path, _size_bytes(path), used_at, _is_locked(lock))


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue  # a compiler's temporary file
    return total


@contextmanager
def using(root: Path, paths: Sequence[Path]) -> Iterator[None]:
    """Keep these entries from being removed, by this or any other process, until the context ends."""
    with ExitStack() as locks:
        for path in paths:
            locks.enter_context(_lock(_lock_path(root, path), fcntl.LOCK_SH))
            os.utime(_lock_path(root, path))
        yield


def remove(root: Path, unwanted: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Remove those of the entries that no study uses.

    Returns:
        (removed, kept because in use).
    """
    removed, kept = [], []
    for entry in unwanted:
        lock = _lock_path(root, entry.path)
        try:
            with _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                _delete(entry.path)
                lock.unlink(missing_ok=True)
            removed.append(entry)
        except BlockingIOError:
            kept.append(entry)
    return removed, kept


def _delete(path: Path) -> None:
    """Rename first, so that a study finds the entry complete or not at all."""
    doomed = path.with_name(f".removing-{path.name}-{os.getpid()}")
    path.rename(doomed)
    if doomed.is_dir():
        shutil.rmtree(doomed)
    else:
        doomed.unlink()


def evict(root: Path, max_bytes: float) -> list[Entry]:
    """Remove the least recently used entries until the rest fits; entries in use stay."""
    listed = entries(root)
    excess = sum(e.size_bytes for e in listed) - max_bytes
    unwanted = []
    for entry in listed:
        if excess <= 0:
            break
        if not entry.in_use:
            unwanted.append(entry)
            excess -= entry.size_bytes
    return remove(root, unwanted)[0]


def _lock_path(root: Path, path: Path) -> Path:
    return root / _LOCKS / f"{path.parent.name}-{path.name}"


@contextmanager
def _lock(path: Path, mode: int) -> Iterator[None]:
    """Hold a lock on a file; if the file was removed while this process waited for it, it is created anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as file:
            fcntl.flock(file, mode)
            if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                yield
                return


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
