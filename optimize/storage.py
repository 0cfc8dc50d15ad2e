"""Optuna's storage."""

from __future__ import annotations

from typing import Any

from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy import event


def open_storage(url: str) -> BaseStorage:
    """Open a storage by its URL.

    SQLite keeps a write-ahead log: a commit costs no wait for the disk, survives the death of the process, and does not
    block those who read (a dashboard). Only a power cut may take the last commits (https://www.sqlite.org/wal.html,
    section 2); the ledger on disk has them still.
    """
    if not url.startswith("sqlite"):
        return get_storage(url)
    storage = RDBStorage(url)
    event.listen(storage.engine, "connect", _write_ahead)
    storage.engine.dispose()  # connections made before this line know nothing of it
    return storage


def _write_ahead(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
