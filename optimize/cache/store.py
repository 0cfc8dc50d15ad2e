"""The cache that studies share: checkpoints, compiled kernels, data sets, packages, token counts, scores of engines.

`python -m optimize.cache` lists it, `... clear [KIND ...]` removes it (`KINDS`).
Every entry is named after the content and versions it was made from, so no entry goes stale; it can only go unused.
Only what carries this project's mark is an entry (see `optimize.entries`), and checkpoints of earlier versions, which
their manifest tells apart. An entry in use is neither cleared nor evicted.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from optimize.entries import hold, is_held, is_marked, mark, release, used_at
from optimize.entries import remove as remove_entry
from optimize.errors import one_line
from optimize.model.folder import is_own

KINDS = ("accuracy", "checkpoints", "compiled", "datasets", "hashes", "packages", "perplexity", "references", "tokens")
_CHECKPOINTS, _SMALL = "checkpoints", ("accuracy", "datasets", "hashes", "perplexity", "references", "tokens")
_OF_NO_SIZE = ("lock", "compress.log", "gguf.log")
"""Files of this project beside the entries."""
_GIB, _DAY_S = 2**30, 86400


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the cache.

    Attributes:
        kind: One of `KINDS`.
        path: Its folder.
        size_bytes: All its files together.
        used_at: Unix time of its last use.
        in_use: Whether a process uses it now.
    """

    kind: str
    path: Path
    size_bytes: int
    used_at: float
    in_use: bool

    def __str__(self) -> str:
        days = (time.time() - self.used_at) / _DAY_S
        return f"{self.kind} {self.path.name}, {self.size_bytes / _GIB:.2f} GiB, last used {days:.1f} days ago"


@dataclass(slots=True)
class Removal:
    """Result of a removal.

    Attributes:
        removed: Entries that are gone.
        in_use: Entries that were kept because a process uses them.
        failed: Entries that the system did not let go, and why.
    """

    removed: list[Entry] = field(default_factory=list)
    in_use: list[Entry] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)


def entries(root: Path) -> list[Entry]:
    """All entries of a cache, the least recently used first."""
    listed = []
    for kind, path in _paths(root):
        with suppress(FileNotFoundError):  # removed meanwhile, by another process
            if _is_entry(kind, path):
                listed.append(Entry(kind, path, _size_bytes(path), used_at(path), is_held(path)))
    return sorted(listed, key=lambda e: e.used_at)


def foreign(root: Path, kinds: Iterable[str] = KINDS) -> list[Path]:
    """What lies in a cache without being an entry: of somebody else, or of an earlier version of this project."""
    own = re.compile(r"|".join((*map(re.escape, _OF_NO_SIZE), r".*\.error")))
    return [p for kind, p in _paths(root) if kind in kinds and not own.fullmatch(p.name) and not _is_entry(kind, p)]


def hold_small(root: Path) -> None:
    """Hold all entries that are small and many, and that any study may come to use."""
    for kind, path in _paths(root):
        if kind in _SMALL:
            hold(path)


def _paths(root: Path) -> Iterator[tuple[str, Path]]:
    for kind in KINDS:
        folder = root / kind
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        yield from ((kind, path) for path in paths)


def _is_entry(kind: str, path: Path) -> bool:
    return is_own(path) if kind == _CHECKPOINTS else is_marked(path)


def _size_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # a compiler's temporary file
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def remove(unwanted: Sequence[Entry]) -> Removal:
    """Remove those of the entries that no process uses; one that another process removes meanwhile is not counted."""
    result = Removal()
    for entry in unwanted:
        try:
            if not is_marked(entry.path):
                mark(entry.path)
                release(entry.path)
            if remove_entry(entry.path):
                result.removed.append(entry)
        except BlockingIOError:
            result.in_use.append(entry)
        except FileNotFoundError:
            continue
        except OSError as error:
            result.failed[entry.path] = one_line(error)
    return result


def evict(root: Path, max_bytes: float) -> Removal:
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
    return remove(unwanted)
