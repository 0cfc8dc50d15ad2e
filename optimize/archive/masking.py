"""Paths, addresses and host names out of everything that leaves a machine, equal ones by equal stand-ins."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from optimize.redaction import redact

T = TypeVar("T")
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>\\,;)\]}]+")
_PATH = re.compile(r"(?<![\w/.<~])(?:~[\w.-]*|\.{1,2})?/[^\s\"'<>|:,;=()\[\]{}\\]+")
_IP = re.compile(r"(?<![\w.])(?!127\.|0\.)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_NAMES_A_PLACE = re.compile(
    r"(?:^|_)(path|paths|dir|file|folder|uri|ui|url|address|storage|artifacts|into|checkpoint|recipe|host|lora)$"
)
_FILE = re.compile(r"[^/]+\.(?:jsonl?|csv|tsv|txt|parquet|ya?ml|gz|zst|bz2|xz|zip|db|log|md|safetensors|gguf)")
_LEAST = 4
"""Characters of the shortest text that is replaced wherever it stands."""


class Masking:
    """Replaces what names places of this machine.

    Args:
        settings: The study's configuration: its paths and addresses are replaced wherever they stand, relative ones and
            those with blanks too.
        on: Whether anything is replaced; secrets are in any case.
    """

    def __init__(self, settings: object, on: bool = True) -> None:
        self._on = on
        self._stand_ins: dict[str, str] = {}
        places = {text for text in _places(settings) if len(text) >= _LEAST}
        self._literals = sorted(places, key=lambda text: (-len(text), text))
        host = os.uname().nodename
        named = len(host) >= _LEAST and host != "localhost"
        self._host = re.compile(rf"(?<![\w-]){re.escape(host)}(?![\w-])") if named else None

    def text(self, text: str) -> str:
        """A text without places and secrets."""
        text = redact(text)
        if not self._on:
            return text
        for literal in self._literals:
            if literal in text:
                text = text.replace(literal, self._stand_in(literal))
        text = _ADDRESS.sub(lambda match: self._stand_in(match.group(), "address"), text)
        text = _PATH.sub(lambda match: self._stand_in(match.group()), text)
        for pattern in (_IP, self._host):
            if pattern is not None:
                text = pattern.sub(lambda match: self._stand_in(match.group(), "host"), text)
        return text

    def value(self, value: T) -> T:
        """Mappings (keys too), sequences and texts without places and secrets."""
        redone: Any = value
        if isinstance(value, Mapping):
            redone = {self.value(key): self.value(item) for key, item in value.items()}
        elif isinstance(value, list | tuple):
            redone = type(value)(map(self.value, value))
        elif isinstance(value, str):
            redone = self.text(value)
        return redone  # type: ignore[no-any-return]

    def _stand_in(self, place: str, kind: str = "path") -> str:
        """/path-1, /address-2, ...: numbered as they come, for a hash of a path can be guessed."""
        if re.fullmatch(r"/(?:path|address|host)-\d+", place):
            return place
        return self._stand_ins.setdefault(place, f"/{kind}-{len(self._stand_ins) + 1}")


def _places(settings: object, key: str = "") -> Iterator[str]:
    """The values of settings that are named like places, and look like one."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _places(value, str(name) if _NAMES_A_PLACE.search(str(name)) else key if key == "lora" else "")
    elif isinstance(settings, list):
        for value in settings:
            yield from _places(value, key)
    elif isinstance(settings, str) and key and _is_place(settings):
        yield settings


def _is_place(text: str) -> bool:
    """Whether a value leads somewhere on this machine or its network: `org/model` is a name that all know."""
    public = (
        text.count("/") == 1 and not text.startswith((".", "/", "~")) and not _FILE.fullmatch(text.rpartition("/")[2])
    )
    local = re.match(r"(?:127\.0\.0\.1|localhost|0\.0\.0\.0)\b", text)
    return not public and not local and bool("/" in text or ":" in text or _FILE.fullmatch(text))
