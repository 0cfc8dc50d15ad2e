"""Writing a study as one ZIP file: the same study gives the same bytes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from optimize.archive.contents import (
    ABOUT,
    CONFIG,
    MANIFEST,
    RECORD,
    REFERENCES,
    REPORT,
    REQUESTS,
    STUDY,
    TELEMETRY,
    Manifest,
    config_text,
    digest,
)  # fmt: skip
from optimize.archive.masking import Masking
from optimize.archive.report import report_of
from optimize.config.archive import Export
from optimize.files import replacing
from optimize.ledger import Ledger, TrialRecord
from optimize.raw_data import requests_table, telemetry_table
from optimize.study.snapshot import snapshot

if TYPE_CHECKING:
    import optuna

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP file can hold: when a file was written is nobody's business."""


def write_archive(study: optuna.Study, ledger: Ledger, settings: Export, path: Path) -> Manifest:
    """Write everything that is read of a study to one file.

    Engine logs, the deployment bundle, and ids of MLflow's runs stay here: they belong to this machine.

    Args:
        study: The study in Optuna's storage.
        ledger: Its folder.
        settings: What may leave.
        path: The file.

    Returns:
        Its manifest.
    """
    files = dict(_files(study, ledger, settings))
    files[REPORT] = report_of(files, study.study_name)
    digests = {name: digest(content) for name, content in sorted(files.items())}
    manifest = Manifest(study.study_name, digests, settings.prompts, settings.paths)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        _add(archive, MANIFEST, _json(manifest.to_dict()))
        for name, content in sorted(files.items()):
            _add(archive, name, content)
    return manifest


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
    archive.writestr(entry, content)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def _files(study: optuna.Study, ledger: Ledger, settings: Export) -> Iterator[tuple[str, bytes]]:
    """Name -> content of every file but the manifest and the report, in a fixed order."""
    head, config = ledger.overrides(), _read_yaml(ledger.folder / CONFIG)
    masking = Masking(config, on=not settings.paths)
    yield STUDY, _json(masking.value(snapshot(study)))
    yield CONFIG, config_text(masking.value(head), masking.value(config)).encode()
    for number, record in ((record.number, record) for record in ledger.records()):
        yield f"trials/{number:04d}/{RECORD}", _record(record, masking)
        yield from _tables(ledger, number, settings.prompts)
    for name in (ABOUT, *([REFERENCES] if settings.prompts else [])):
        path = ledger.folder / name
        if path.is_file():
            yield name, _json(masking.value(json.loads(path.read_text(encoding="utf-8"))))


def _read_yaml(path: Path) -> Any:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def _record(record: TrialRecord, masking: Masking) -> bytes:
    return _json(masking.value(json.loads(record.to_json())))


def _tables(ledger: Ledger, number: int, prompts: bool) -> Iterator[tuple[str, bytes]]:
    """The requests of a trial, without their answers unless those may leave, and its telemetry."""
    if requests := ledger.read_requests(number):
        yield f"trials/{number:04d}/{REQUESTS}", _parquet(requests_table(requests, texts=prompts))
    if series := ledger.read_series(number):
        yield f"trials/{number:04d}/{TELEMETRY}", _parquet(telemetry_table(series))


def _parquet(table: pa.Table) -> bytes:
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
