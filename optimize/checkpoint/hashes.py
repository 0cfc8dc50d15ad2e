"""The contents of a model's files as one hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from optimize.checkpoint.files import folder_on_disk, hub_name

LARGE_BYTES = 1 << 30
"""Size from which files are hashed by themselves, several at a time; their hashes then stand for their contents."""
_THREADS, _CHUNK = 8, 1 << 20
_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".jinja", ".txt"}
_MANIFEST = "manifest.json"  # in which this project notes when it made a checkpoint: no part of the model
_DIGITS = 16
_HASHES: dict[str, str] = {}
Progress = Callable[[int], None]


def content_hash(model: str) -> str:
    """Sixteen hexadecimal digits over the files of a folder, or of the revision of a model of the hub that is followed;
    over id and revision of one that is not on this disk.

    A process reads a model once. `optimize.model.hashes` spares that too where no file has changed.
    """
    folder = folder_on_disk(model)
    if folder is None:
        return hashlib.sha256(hub_name(model).encode()).hexdigest()[:_DIGITS]
    if str(folder) not in _HASHES:
        _HASHES[str(folder)] = hash_of_files(folder)
    return _HASHES[str(folder)]


def remember_hash(folder: Path, digest: str) -> None:
    """Have `content_hash` answer so for a folder from now on."""
    _HASHES[str(folder)] = digest


def hash_of_files(folder: Path, progress: Progress = lambda _: None, large_bytes: int = LARGE_BYTES) -> str:
    """The hash of a folder's files, read anew.

    Args:
        folder: Of a model.
        progress: Called with the number of bytes of each piece that has been read, by several threads.
        large_bytes: See `LARGE_BYTES`.
    """
    files = _files(folder)
    large = [file for file in files if file.stat().st_size >= large_bytes]
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        hashes = dict(zip(large, threads.map(lambda file: _sha256(file, progress), large), strict=True))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        if file in hashes:
            digest.update(hashes[file])
        else:
            _add(digest, file, progress)
    return digest.hexdigest()[:_DIGITS]


def file_states(folder: Path) -> list[list[str | int]]:
    """What changes with any change of the hashed files: [name, bytes, inode, modification, change] of each.

    The last two are times in nanoseconds. Programs may set the first of them, and no program the second. Files are
    opened for it, by which network file systems look at the server's.
    """
    return [_state(file) for file in _files(folder)]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.name != _MANIFEST)


def _state(file: Path) -> list[str | int]:
    with file.open("rb") as stream:
        state = os.fstat(stream.fileno())
    return [file.name, state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]


def _sha256(file: Path, progress: Progress) -> bytes:
    digest = hashlib.sha256()
    _add(digest, file, progress)
    return digest.digest()


def _add(digest: hashlib._Hash, file: Path, progress: Progress) -> None:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            progress(len(chunk))
