"""Entries of the cache: folders that carry this project's mark, held by whoever uses them.

An entry is the folder `<cache>/<kind>/<name>`. Its mark tells it from what somebody else keeps beside it: nothing
without one is ever removed. The mark is the lock as well: a process that uses an entry holds a shared lock on it until
it ends, however it ends, and the mark's time of change is the time of the last use.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from optimize.errors import OptimizeError, one_line

MARK = "CACHEDIR.TAG"
"""Name of the mark, which by convention also tells backup programs to leave a folder out."""
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_STAGE = re.compile(r"\.[0-9a-f]{8}\.(part|removed)$")
_held: dict[Path, int] = {}
"""Entry -> open mark, for as long as this process lives."""


def claim(entry: Path) -> Path:
    """Hold an entry until this process ends; one that is missing is made, empty and marked.

    A folder of this name without a mark is somebody else's: it is used as it is, and never removed.

    Raises:
        OptimizeError: the entry cannot be made.
    """
    try:
        while not hold(entry) and not _is_foreign(entry):
            publish(draft(entry), entry)
    except OSError as error:
        raise OptimizeError(
            f"the cache cannot hold {entry} ({one_line(error)}): make room, or choose another cache_dir"
        ) from error
    return entry


def draft(entry: Path) -> Path:
    """An empty, marked and held folder beside an entry, to be filled and published; unfinished ones are removed."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(entry)
    partial = _beside(entry, "part")
    partial.mkdir()
    try:
        mark(partial)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)  # without its mark nobody would know whose it is
        raise
    return partial


def remove_drafts(entry: Path) -> None:
    """Remove the unfinished drafts of an entry, but those that a process still fills."""
    for path in entry.parent.iterdir():
        if path.name.endswith(".part") and _stem(path.name) == entry.name:
            with suppress(BlockingIOError):
                remove(path)


def publish(partial: Path, entry: Path) -> None:
    """Give a draft the entry's name. Where another process was faster, or it cannot be done, the draft is removed."""
    try:
        partial.rename(entry)
    except OSError as error:
        release(partial)
        with suppress(BlockingIOError):  # another process, which looks for unfinished drafts, removes this one already
            remove(partial)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    else:
        if (handle := _held.pop(partial.absolute(), None)) is not None:
            _held[entry.absolute()] = handle


def mark(folder: Path) -> None:
    """Mark a folder that this project has made, and hold it; a mark that is there already stays.

    The lock comes before the text: as long as the mark is empty, nobody takes the folder for an entry.
    """
    try:
        handle = os.open(folder / MARK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return
    fcntl.flock(handle, fcntl.LOCK_SH)
    os.write(handle, _mark_of(folder).encode())
    _held[folder.absolute()] = handle


def is_marked(folder: Path) -> bool:
    """Whether it is a folder, no link to one, with the mark of an entry of this very name."""
    expected = _mark_of(folder)
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return False
        with os.fdopen(os.open(folder / MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(len(expected.encode()) + 1) == expected.encode()
    except OSError:
        return False


def hold(entry: Path) -> bool:
    """Keep an entry from being removed, by any process, until this process ends.

    Returns:
        Whether there is an entry of this name.
    """
    key = entry.absolute()
    handle = _held.get(key)
    if handle is None or not _is_current(handle, entry):
        release(entry)
        handle = _lock(entry, fcntl.LOCK_SH)
        if handle is None:
            return False
        _held[key] = handle
    with suppress(PermissionError):  # the entry of another user, who shares the cache
        os.utime(handle)
    return True


def release(entry: Path) -> None:
    """Hold an entry no longer."""
    if (handle := _held.pop(entry.absolute(), None)) is not None:
        os.close(handle)


def renew(entry: Path) -> Path:
    """Hold an entry whose files may be damaged, emptied; as it is where another process uses it, or it is foreign.

    Raises:
        OptimizeError: it cannot be made anew.
    """
    release(entry)
    with suppress(OSError):
        remove(entry)
    return claim(entry)


def is_held(entry: Path) -> bool:
    """Whether any process holds an entry."""
    try:
        handle = _lock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    if handle is not None:
        os.close(handle)
    return False


def read_kept(path: Path) -> Any:
    """What a JSON file of an entry holds; None where there is none, or it is damaged: then it is made again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def used_at(entry: Path) -> float:
    """Unix time of the last use of an entry; of its last change where it has no mark yet."""
    path = entry / MARK
    return os.lstat(path if path.is_file() else entry).st_mtime


def remove(entry: Path) -> bool:
    """Remove an entry; links in it are removed, and what they lead to stays.

    It is renamed first, so that others find it complete or not at all, and its mark goes last: what a kill leaves
    behind is still known as this project's.

    Returns:
        Whether it was there, and marked.

    Raises:
        BlockingIOError: it is in use.
        OSError: it cannot be removed.
    """
    handle = _lock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if handle is None:
        return False
    try:
        doomed = _beside(entry, "removed")
        entry.rename(doomed)
        for path in doomed.iterdir():
            if path.name != MARK:
                _delete(path)
        (doomed / MARK).unlink()
        doomed.rmdir()
    finally:
        os.close(handle)
    return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _lock(entry: Path, mode: int) -> int | None:
    """The open, locked mark of an entry; None where there is none, or where it was removed during the wait.

    Raises:
        BlockingIOError: another process holds it, and `mode` does not wait.
    """
    if not is_marked(entry):
        return None
    try:
        handle = os.open(entry / MARK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, mode)
    except OSError:
        os.close(handle)
        raise
    if _is_current(handle, entry):
        return handle
    os.close(handle)
    return None


def _is_current(handle: int, entry: Path) -> bool:
    """Whether an open mark is still that of the entry."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(entry / MARK))
    except OSError:
        return False


def _is_foreign(entry: Path) -> bool:
    return os.path.lexists(entry) and not is_marked(entry)


def _stem(name: str) -> str:
    """Name of the entry that a folder is, becomes, or was."""
    return _STAGE.sub("", name)


def _beside(entry: Path, stage: str) -> Path:
    return entry.with_name(f"{_stem(entry.name)}.{secrets.token_hex(4)}.{stage}")


def _mark_of(folder: Path) -> str:
    return (
        f"{_SIGNATURE}\n# {folder.absolute().parent.name}/{_stem(folder.name)} of the cache of `python -m optimize`, "
        "which may remove this folder\n"
    )
