"""Files: written whole or not at all, and checked before anything starts."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from optimize.errors import ConfigError, DamagedFile, one_line
from optimize.redaction import redact

SOURCE = Path(__file__).resolve().parents[1]
"""The folder that holds the package `optimize`: the root of a checkout, or an environment's site-packages."""

_LONGEST_PART = 60
"""Characters of a name that go into the name of a file."""
PARTIAL = ".part"
"""How the names of files end that are being written."""
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space within the quota",
    errno.EROFS: "mount it writable, or choose another output_dir and cache_dir",
    errno.EACCES: "give yourself the permission, or choose another output_dir and cache_dir",
    errno.EPERM: "give yourself the permission, or choose another output_dir and cache_dir",
    errno.EIO: "look at the disk (dmesg)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How texts begin that a spreadsheet computes."""
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError, RecursionError)
"""What reading a file raises whose content is not what it should be, Arrow's errors among them."""


def python_path() -> str:
    """PYTHONPATH for a child process that is to import this very package, wherever it starts.

    Left as it is where the package is installed: entries of PYTHONPATH come before the standard library, and
    site-packages must not.
    """
    installed = SOURCE in {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join(filter(None, [None if installed else str(SOURCE), inherited]))


def path_part(name: str) -> str:
    """A name of the user's, with which anything may be called, as part of the name of a file."""
    return re.sub(r"[^\w.-]+", "_", name)[:_LONGEST_PART].lstrip(".") or "_"


def check_writable(key: str, path: Path) -> None:
    """Make a folder, and see that files can be written there.

    Args:
        key: What of the configuration it is.
        path: The folder.

    Raises:
        ConfigError: naming both.
    """
    if any("\udc80" <= letter <= "\udcff" for letter in str(path)):
        raise ConfigError(f"{key}: the name of {path} is not UTF-8, in which tables are opened: choose another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(
            f"{key}: cannot write to {path} ({error.strerror}): choose a folder you may write to"
        ) from error


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file, which stays.

    Args:
        path: The file, made if missing.
        wait: Whether to wait for another process that holds it.

    Raises:
        ConfigError: the file is another user's, or a link.
        TimeoutError: another process holds it, and `wait` is off.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except TimeoutError:
        raise
    except OSError as error:
        raise ConfigError(
            f"cannot lock {path} ({one_line(error)}): remove that file if nobody uses it, or choose another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, whose file then takes the place of `path`.

    A reader never sees half of it, and neither a kill, a full disk nor a power cut leaves half of it. Where writing
    fails, the file that stood there before still does, and nothing else is left.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all, see `replacing`; secrets are replaced by their names."""
    with replacing(path) as partial:
        partial.write_text(redact(text), encoding="utf-8")


def _flush(path: Path) -> None:
    """Wait until a file is on the disk: one that is renamed before may be empty after a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def in_words(error: OSError) -> str:
    """What the system refused, of which file, and what to do about it."""
    path = f" ({error.filename})" if error.filename is not None else ""
    remedy = _REMEDIES.get(error.errno or 0, "see to it")
    return f"{one_line(error)}{path}: {remedy}; the same command then goes on from here"


def remove_partial(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder."""
    for partial in folder.glob(f".*{PARTIAL}"):
        partial.unlink(missing_ok=True)


@contextmanager
def reading(path: Path | str, remedy: str) -> Iterator[None]:
    """Name the file, and what to do about it, in whatever reading it raises.

    Args:
        path: The file, or the words for what is read.
        remedy: What its owner can do.

    Raises:
        DamagedFile: it cannot be read, or does not hold what it should.
    """
    try:
        yield
    except _UNREADABLE as error:
        fault = _fault(error).replace(f"'{path}': ", "")
        raise DamagedFile(f"{path} cannot be read ({fault}): {remedy}") from error


def _fault(error: Exception) -> str:
    """What is wrong with the content of a file, in a few words."""
    if isinstance(error, ValueError) and (details := getattr(error, "errors", None)):  # pydantic's, one per field
        first = details()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    if isinstance(error, OSError | ValueError):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)}"


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file.

    Raises:
        DamagedFile: it holds anything else.
    """
    if not path.exists():
        return {}
    with reading(path, remedy):
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError(f"an object is expected, not {type(raw).__name__}")
        return raw


def to_csv_lines(lines: Sequence[Mapping[str, Any]]) -> str:
    """Flat lines as CSV, with the columns that any of them has.

    An apostrophe comes before texts that a spreadsheet would compute: a study of somebody else's names its knobs.
    """
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_no_formula, columns))
    writer.writerows([_no_formula(line.get(column)) for column in columns] for line in lines)
    return text.getvalue()


def _no_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def write_files(texts: Mapping[str, str], folder: Path) -> list[Path]:
    """Write files whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]
