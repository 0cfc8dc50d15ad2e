"""What an archive of a study holds, and how much of it: shared by those who write one and those who read one."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from optimize.config.command_words import head_of

FORMAT, VERSION = "vllm-optimize-study", 1
MANIFEST, STUDY, ABOUT, CONFIG, REFERENCES = (
    "manifest.json", "study.json", "about.json", "config.yaml", "references.json",
)  # fmt: skip
REPORT = "report.html"
"""Drawn for whoever opens the archive by hand; whoever reads it with this project draws it anew."""
RECORD, REQUESTS, TELEMETRY = "trial.json", "requests.parquet", "telemetry.parquet"
MOST_FILES = 100_000
MOST_ROWS = 2_000_000
"""Requests or samples in one table: a few bytes of Parquet may stand for any number of equal rows."""
MOST_TABLE_BYTES = 2**30
"""Bytes of all texts in one table, of which a few bytes of Parquet may stand for any number, too."""
MOST_TEXT_BYTES = 2**28
"""Bytes of one file that is read whole, as JSON or YAML."""
MOST_CONFIG_BYTES = 2**20
"""Bytes of a configuration: reading YAML takes ten seconds for a megabyte."""
_TRIAL = re.compile(rf"trials/(\d{{4,9}})/({re.escape(RECORD)}|{re.escape(REQUESTS)}|{re.escape(TELEMETRY)})")
_SINGLE = frozenset({MANIFEST, STUDY, ABOUT, CONFIG, REFERENCES, REPORT})


@dataclass(frozen=True)
class Manifest:
    """The first file of an archive.

    Attributes:
        study: Name of the study.
        files: Name -> SHA-256 of every other file. They show damage, not who wrote the archive.
        prompts: Whether the archive holds answers, which quote prompts.
        paths: Whether it holds paths, host names and addresses.
        version: Version of the format; a reader refuses a later one than its own.
        format: What kind of archive it is.
    """

    study: str
    files: Mapping[str, str] = field(default_factory=dict)
    prompts: bool = False
    paths: bool = False
    version: int = VERSION
    format: str = FORMAT

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def is_part(name: str) -> bool:
    """Whether an archive may hold a file of this name; none of them leads out of a folder."""
    return name in _SINGLE or _TRIAL.fullmatch(name) is not None


def size_limit(name: str) -> float:
    """Most bytes of one file; tables are limited by what they hold."""
    if name.endswith(".parquet"):
        return math.inf
    return MOST_CONFIG_BYTES if name == CONFIG else MOST_TEXT_BYTES


def trial_and_file(name: str) -> tuple[int, str] | None:
    """Trial and file that a name in an archive stands for; None for a file of the whole study."""
    match = _TRIAL.fullmatch(name)
    return None if match is None else (int(match.group(1)), match.group(2))


def config_text(words: Sequence[str], settings: object) -> str:
    """A study's configuration below the words of its command."""
    text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return head_of(words) + text


def digest(content: bytes) -> str:
    """Checksum of a file's content."""
    return hashlib.sha256(content).hexdigest()
