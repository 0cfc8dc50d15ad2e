"""Reading an archive that anybody may have written: every file is parsed and written anew, none is unpacked as it is.

What a name, a link, a size, a checksum or a content can do to the reader is refused in one line.
A checksum shows damage, not who wrote the archive: its figures and commands remain the word of whoever sent it.
"""

from __future__ import annotations

import json
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from optimize.archive.contents import (
    FORMAT,
    MANIFEST,
    MOST_FILES,
    REFERENCES,
    VERSION,
    Manifest,
    config_text,
    digest,
    is_part,
    size_limit,
)  # fmt: skip
from optimize.config.command_words import words_of
from optimize.errors import ConfigError, DamagedFile, one_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What commands a terminal, ends a line, turns the direction of a text around, or is half a character."""
_DEEPEST = 100
_FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError, AttributeError, DamagedFile, EOFError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading raises whose content is not what it should be; Arrow's, pydantic's and Optuna's errors among them."""


@contextmanager
def untrusted(path: Path, part: str = "") -> Iterator[None]:
    """Name the archive and its part in whatever reading it raises.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        yield
    except ConfigError:
        raise
    except _FAULTS as error:
        raise refusal(path, f"{part}: {_fault(error)}" if part else _fault(error)) from error


def refusal(path: Path, why: str) -> ConfigError:
    """The error of an archive that is not taken."""
    return ConfigError(
        f"unpack.archive={path} is no archive of a study that can be read ({why}): have it written again by "
        "python -m optimize.export"
    )


def _fault(error: Exception) -> str:
    if isinstance(error, ValueError) and (details := getattr(error, "errors", None)):  # pydantic's, one per field
        first = details()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return one_line(error)


class Archive:
    """An open archive whose names, sizes and manifest have been checked.

    Args:
        path: The file.
        most_bytes: Most bytes that its files may take, unpacked.

    Attributes:
        path: The file.
        manifest: Its manifest.

    Raises:
        ConfigError: it is none, is damaged, too large, or of a later version, or holds what no study holds.
    """

    def __init__(self, path: Path, most_bytes: float) -> None:
        self.path = path
        if not path.is_file():
            raise ConfigError(f"unpack.archive={path}: there is no such file")
        with untrusted(path):
            self._zip = zipfile.ZipFile(path)
            self._entries = self._checked(self._zip.infolist(), most_bytes)
            self.manifest = self._manifest()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        """All files but the manifest, in order."""
        return sorted(self.manifest.files)

    def content(self, name: str) -> bytes:
        """One file, whole as its checksum says."""
        with untrusted(self.path, name):
            content = self._read(name)
            if digest(content) != self.manifest.files[name]:
                raise ValueError("its checksum differs: the file is damaged")
            return content

    def json(self, name: str) -> Any:
        """The object of a JSON file, its texts without control characters; what a model answered stays as it is."""
        with untrusted(self.path, name):
            raw = json.loads(self.content(name).decode("utf-8"))
            if not isinstance(raw, dict):
                raise ValueError("an object is expected")
            return raw if name == REFERENCES else without_controls(raw)

    def config(self, name: str) -> str:
        """A configuration in YAML with the words of its command, written anew without control characters."""
        with untrusted(self.path, name):
            text = self.content(name).decode("utf-8")
            return config_text(without_controls(words_of(text)), without_controls(_settings_in(text)))

    def _read(self, name: str) -> bytes:
        """A file's bytes, at most as many as it says."""
        entry = self._entries[name]
        with self._zip.open(entry) as file:
            content = file.read(entry.file_size + 1)
        if len(content) != entry.file_size:
            raise ValueError("it is not as long as it says")
        return content

    def _checked(self, entries: list[zipfile.ZipInfo], most_bytes: float) -> dict[str, zipfile.ZipInfo]:
        """Name -> entry, seen to be plain files of a study."""
        if len(entries) > MOST_FILES:
            raise refusal(self.path, f"it holds {len(entries)} files, and at most {MOST_FILES} are read")
        for entry in entries:
            if not is_part(entry.filename) or not _is_plain(entry):
                raise refusal(self.path, f"{entry.filename!r} is nothing that a study holds")
            if entry.file_size > (most := size_limit(entry.filename)):
                raise refusal(self.path, f"{entry.filename} is larger than {most / 2**20:.0f} MiB")
        by_name = {entry.filename: entry for entry in entries}
        if len(by_name) != len(entries):
            raise refusal(self.path, "a file is in it twice")
        size = sum(entry.file_size for entry in entries)
        if size > most_bytes:
            raise ConfigError(
                f"unpack.archive={self.path} takes {size / 2**30:.2g} GiB unpacked, more than unpack.max_gib="
                f"{most_bytes / 2**30:g}: raise it if you trust whoever sent it"
            )
        return by_name

    def _manifest(self) -> Manifest:
        raw = json.loads(self._read(MANIFEST)) if MANIFEST in self._entries else {}
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise refusal(self.path, f"its {MANIFEST} is missing or of something else")
        if not isinstance(raw.get("version"), int) or raw["version"] > VERSION:
            raise ConfigError(
                f"unpack.archive={self.path} has version {raw.get('version')!r} of the format, and this release reads "
                f"up to {VERSION}: update vllm-optimize"
            )
        manifest = _schema().validate_python(raw)
        if manifest.files.keys() != self._entries.keys() - {MANIFEST}:
            raise refusal(self.path, f"its files are not those of its {MANIFEST}")
        return manifest


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is a file: no folder, no link, not encrypted."""
    mode = entry.external_attr >> 16
    return not entry.is_dir() and (not mode or stat.S_IFMT(mode) in (0, stat.S_IFREG)) and not entry.flag_bits & 1


def _settings_in(text: str) -> Any:
    """What a YAML text holds, seen to be plain and flat before any of it is built: deep nesting takes hours to read."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases, which an export has none of")
            if depth > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} deep")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error


def without_controls(value: T) -> T:
    """Mappings, lists and texts with the control characters in them written out (line breaks and tabs stay)."""
    redone: Any = value
    if isinstance(value, dict):
        redone = {without_controls(key): without_controls(item) for key, item in value.items()}
    elif isinstance(value, list):
        redone = [without_controls(item) for item in value]
    elif isinstance(value, str):
        redone = _CONTROLS.sub(lambda match: match.group().encode("unicode_escape").decode(), value)
    return redone  # type: ignore[no-any-return]


@cache
def _schema() -> TypeAdapter[Manifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)
