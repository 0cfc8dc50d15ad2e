"""Adding the study of an archive to the studies of this machine, whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.archive.contents import (
    ABOUT,
    CONFIG,
    MOST_ROWS,
    MOST_TABLE_BYTES,
    RECORD,
    REFERENCES,
    REQUESTS,
    STUDY,
    trial_and_file,
)  # fmt: skip
from optimize.archive.reading import Archive, untrusted
from optimize.config.names import check_name
from optimize.errors import ConfigError
from optimize.files import locked, write_atomically
from optimize.ledger import Ledger, TrialRecord, study_folder
from optimize.raw_data import (
    bytes_in,
    has_texts,
    requests_in,
    requests_table,
    rows_in,
    series_in,
    telemetry_table,
    write,
)
from optimize.study.confirmation import recommendation
from optimize.study.info import StudyInfo
from optimize.study.snapshot import add_study, has_study, settle_half, study_in_memory
from optimize.study.storage import open_storage
from optimize.study.trials import check_trials
from optimize.study.trust import HALF, UNPACKED

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

_STAGING = ".unpack-"
"""Start of the name of the folder that a study's files are first written to."""


def unpack(archive: Archive, storage_url: str, output_dir: str, name: str) -> optuna.Study:
    """Check everything, then add the study to Optuna's storage and its files to `output_dir`.

    Args:
        archive: The archive.
        storage_url: Optuna's storage here.
        output_dir: Folder of the studies.
        name: The study's name here.

    Raises:
        ConfigError: there is such a study already, or something in the archive is not what it should be.
    """
    check_name("unpack.name", name)
    folder = study_folder(output_dir, name)
    with _alone(folder.parent):
        storage = open_storage(storage_url)
        settle_half(storage, name, folder.exists())
        if has_study(storage, name) or folder.exists():
            raise ConfigError(
                f"there is a study {name!r} already: give this one another name, e.g. unpack.name={name}-2"
            )
        return _added(archive, storage, folder, _snapshot(archive, name))


@contextmanager
def _alone(studies: Path) -> Iterator[None]:
    """Keep other processes from unpacking here, and remove what those that were killed have left."""
    studies.mkdir(parents=True, exist_ok=True)
    with locked(studies.parent / ".unpack.lock"):
        for staging in studies.glob(f"{_STAGING}*"):
            shutil.rmtree(staging, ignore_errors=True)
        yield


def _added(archive: Archive, storage: BaseStorage, folder: Path, raw: dict[str, Any]) -> optuna.Study:
    """The study of a snapshot, with its files; its mark is the first thing that is stored of it."""
    name = folder.name
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_STAGING) as staging:
        _write_files(archive, Ledger(Path(staging) / name), name)
        study = add_study(storage, raw, name, {UNPACKED: HALF})
        try:
            (Path(staging) / name).rename(folder)
        except OSError:
            settle_half(storage, name, in_place=False)
            raise
        study.set_user_attr(UNPACKED, True)
    return study


def _snapshot(archive: Archive, name: str) -> dict[str, Any]:
    """The study as Optuna's storage will have it, seen to be one that can be decided from."""
    raw: dict[str, Any] = archive.json(STUDY)
    with untrusted(archive.path, STUDY):
        study = study_in_memory(raw, name)
        check_trials(study)
        recommendation(study)
    return raw


def _write_files(archive: Archive, ledger: Ledger, name: str) -> None:
    """Every file anew, as this release writes it; the report is not taken."""
    ledger.folder.mkdir(parents=True)
    for part in archive.names():
        with untrusted(archive.path, part):
            match trial_and_file(part):
                case None:
                    _write_single(archive, part, ledger.folder)
                case number, file if file == RECORD:
                    _write_record(archive.json(part), ledger, number, name)
                case number, file:
                    _write_table(archive.content(part), ledger.trial_folder(number) / file)


def _write_single(archive: Archive, part: str, folder: Path) -> None:
    if part == ABOUT:
        StudyInfo.from_dict(archive.json(part)).write(folder)
    elif part == REFERENCES:
        write_atomically(folder / part, json.dumps(archive.json(part)))
    elif part == CONFIG:
        write_atomically(folder / part, archive.config(part))


def _write_record(raw: dict[str, Any], ledger: Ledger, number: int, name: str) -> None:
    record = TrialRecord.from_json(json.dumps(raw))
    if record.number != number:
        raise ValueError(f"it is of trial {record.number}")
    record.study = name
    ledger.write(record)


def _write_table(content: bytes, path: Path) -> None:
    """A table of requests or telemetry, read row by row: of the file itself nothing remains."""
    received = path.with_name(f".{path.name}.received")
    received.write_bytes(content)
    if rows_in(received) > MOST_ROWS:
        raise ValueError(f"it says that it has more than {MOST_ROWS} rows")
    if bytes_in(received, MOST_TABLE_BYTES) > MOST_TABLE_BYTES:
        raise ValueError(f"its texts take more than {MOST_TABLE_BYTES / 2**20:.0f} MiB")
    if path.name == REQUESTS:
        table = requests_table(requests_in(received), texts=has_texts(received))
    else:
        table = telemetry_table(series_in(received))
    write(table, received)
    received.rename(path)
