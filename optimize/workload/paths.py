"""The files that `workload.path` names: one, several, a folder of them, or a pattern."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from optimize.errors import ConfigError
from optimize.workload.streams import PACKED, head_of

_KINDS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet", ".txt": "text",
}  # fmt: skip
_OF_DATA_SETS = ("dataset_info.json", "dataset_infos.json", "state.json", "config.json")
"""Files that stand beside a data set's rows and hold none."""


def files_of(paths: Sequence[str]) -> list[Path]:
    """The files that a setting names, in order; none where it can only be the id of a data set on the hub.

    A file that exists is taken as it is called, whatever brackets its name holds.

    Raises:
        ConfigError: there is none.
    """
    files = [_files_of(path) for path in paths]
    if len(paths) > 1 and [] in files:
        _missing(paths[files.index([])])
    return [file for part in files for file in part]


def _files_of(setting: str) -> list[Path]:
    path = Path(setting).expanduser()
    if path.is_dir():
        return _within(path)
    if path.exists():
        return [path]
    if matches := sorted(glob.glob(str(path), recursive=True)):
        return [Path(match) for match in matches if Path(match).is_file()]
    looks_like_file = (
        path.is_absolute() or suffix_of(path) in _KINDS or setting[:1] in (".", "~") or setting.count("/") > 1
    )
    return _missing(setting) if looks_like_file or glob.has_magic(setting) else []


def _missing(setting: str) -> list[Path]:
    path = Path(setting).expanduser()
    beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, beside, n=1)
    remedy = (
        f"did you mean {str(path.with_name(near[0]))!r}?" if near else "give an existing JSONL, CSV or Parquet file"
    )
    raise ConfigError(f"workload.path={setting} does not exist: {remedy}")


def _within(folder: Path) -> list[Path]:
    files = [
        file for file in sorted(folder.rglob("*"))
        if file.is_file() and kind_by_name(file) and file.name not in _OF_DATA_SETS and not _is_hidden(file, folder)
    ]  # fmt: skip
    rows = [file for file in files if kind_by_name(file) != "text"] or files  # a README.txt beside the rows is none
    kinds = sorted({suffix_of(file) for file in rows})
    if len(kinds) > 1:
        raise ConfigError(
            f"workload.path={folder} holds {' and '.join(kinds)} files: name those you mean, e.g. "
            f"'workload.path={folder}/*{kinds[0]}'"
        )
    if not rows:
        raise ConfigError(f"workload.path={folder} holds no file of rows: give one of {', '.join(_KINDS)}")
    return rows


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def suffix_of(path: Path) -> str:
    """How a file's name ends, before what says that it is packed."""
    stem = Path(path.stem) if path.suffix.lower() in PACKED else path
    return stem.suffix.lower()


def kind_by_name(path: Path) -> str | None:
    return _KINDS.get(suffix_of(path))


def kind_of(path: Path) -> str:
    """What a file holds: "jsonl", "json", "csv", "tsv", "parquet" or "text".

    Raises:
        ConfigError: neither its name nor its first bytes say it.
    """
    head = head_of(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    kind = kind_by_name(path) or ("json" if head.lstrip()[:1] in (b"{", b"[") else None)
    if kind is None:
        raise ConfigError(
            f"workload.path={path}: a file must end in {', '.join(_KINDS)}, packed by {', '.join(PACKED)} or not; "
            "convert it or rename it"
        )
    return kind
