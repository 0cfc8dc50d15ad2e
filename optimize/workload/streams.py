"""Files as streams: unpacked whatever packed them, and texts in the encoding that their first bytes show."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from optimize.errors import ConfigError

PACKED = (".gz", ".zst", ".bz2", ".xz")
"""How the names of packed files end; they are told by their first bytes."""
_HEAD_BYTES = 8


def unpacked(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked where gzip, Zstandard, bzip2 or xz packed them."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, opened in _UNPACKERS.items():
        if head.startswith(magic):
            return cast(IO[bytes], opened(path))
    return path.open("rb")


def _zstandard(path: Path) -> Any:
    import pyarrow as pa  # loaded here, where a file needs it; Python's own reader comes with 3.14

    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


_UNPACKERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open, b"\x28\xb5\x2f\xfd": _zstandard, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open
}  # fmt: skip
"""First bytes -> what opens a file that begins with them."""


def head_of(path: Path) -> bytes:
    """The first unpacked bytes of a file."""
    with unpacked(path) as stream:
        return stream.read(_HEAD_BYTES)


def text_of(path: Path, encoding: str | None, newline: str | None = None) -> io.TextIOWrapper:
    """A file's text.

    Args:
        path: The file.
        encoding: Its encoding; None takes UTF-8, or UTF-16 and UTF-32 where the first bytes show it.
        newline: As `open` takes it.

    Raises:
        ConfigError: there is no such encoding.
    """
    name = encoding or _encoding(head_of(path))
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise ConfigError(f"workload.encoding={encoding} is none that Python has: give one such as cp1252") from error
    return io.TextIOWrapper(unpacked(path), name, newline=newline)


def _encoding(head: bytes) -> str:
    """The encoding that a byte order mark names, or zeros between the bytes of Latin letters; else UTF-8."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) >= 4 and 0 in head[:4]:
        return "utf-16-le" if head[1] == 0 else "utf-16-be"
    return "utf-8-sig"


def undecodable(path: Path, encoding: str | None) -> str:
    """The first line that an encoding does not fit, in words with the remedy."""
    name = encoding or _encoding(head_of(path))
    remedy = "save the file as UTF-8, or set workload.encoding, e.g. workload.encoding=cp1252"
    with unpacked(path) as lines:
        for number, line in enumerate(lines if name.startswith("utf-8") or encoding else (), 1):
            try:
                line.decode(name)
            except UnicodeDecodeError as error:
                near = line[max(error.start - 20, 0) : error.start + 20].decode("cp1252", errors="replace")
                return f"line {number} is not {name[:5].upper()}: {near!r} in cp1252; {remedy}"
    return f"it is not {name}; {remedy}"
