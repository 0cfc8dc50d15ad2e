"""Optuna's storage: SQLite for one driver, a database server for several."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, fail_stale_trials, get_storage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from optimize.databases import BUSY_S, PREFIX, fault, path_of
from optimize.errors import ConfigError, one_line
from optimize.redaction import redacted
from optimize.search.optuna_compat import database_of, end_trial, record_heartbeat, storage_of
from optimize.study.patience import PATIENCE_S, PatientStorage, cause_of

HEARTBEAT_S, GRACE_S = 10, 60
"""Seconds between the heartbeats of a driver, and of silence after which other drivers take over its trials."""
FAULTS: tuple[type[Exception], ...] = (StorageInternalError, SQLAlchemyError)
"""Exceptions of a storage that is not reachable."""
_UNFIT: tuple[type[Exception], ...] = (*FAULTS, ImportError, ValueError, AttributeError, OSError, RuntimeError)
_SERVERS = ("postgresql", "mysql", "mariadb")
_CONNECT_S = 5
_CREATE_S = 1.0
OnStale = Callable[[optuna.Study, FrozenTrial], None]
Tell = Callable[[str], None]


def open_storage(url: str, on_stale: OnStale | None = None, tell: Tell = print) -> BaseStorage:
    """Open a storage by its URL, with one cache of the trials for all that read it.

    SQLite keeps a write-ahead log: a commit costs no wait for the disk, survives the death of the process, and does not
    block those who read (a dashboard). Only a power cut may take the last commits (https://www.sqlite.org/wal.html,
    section 2); the ledger on disk has them still.

    Args:
        url: As Optuna takes it.
        on_stale: Called on a server for each trial that is ended because its driver fell silent.
        tell: Receives a line when a call begins to wait for the database.

    Raises:
        ConfigError: a file that cannot be used, or a server that cannot be reached, or refuses.
    """
    try:
        if url.startswith(PREFIX):
            return get_storage(_open_file(url, tell))
        return get_storage(_open_server(url, on_stale, tell) if url.startswith(_SERVERS) else url)
    except _UNFIT as error:
        raise ConfigError(f"tracking.storage={redacted(url)}: {_why(url, error)}") from None


def _open_file(url: str, tell: Tell) -> RDBStorage:
    storage = PatientStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_S}})
    event.listen(storage.engine, "connect", _write_ahead)
    storage.engine.dispose()  # or connections opened before would lack the listener
    storage.tell = _teller(url, tell)
    return storage


def _teller(url: str, tell: Tell) -> Callable[[Exception], None]:
    where = f"note: storage {redacted(url)}"
    return lambda error: tell(f"{where} {fault_of(url, error)}; it is tried again for {PATIENCE_S / 60:.0f} minutes")


def fault_of(url: str, error: Exception) -> str:
    """What is wrong with a storage, and what to do about it; to be read after its address."""
    cause = cause_of(error)
    if isinstance(cause, sqlite3.Error):
        return fault(path_of(url), cause)
    return f"does not answer ({one_line(cause)}): start the server, or correct the address"


def check_server(url: str) -> None:
    """Connect to a database server without writing anything.

    Raises:
        ConfigError: it cannot be reached, or refuses.
    """
    if not url.startswith(_SERVERS):
        return
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_S})
        with engine.connect():
            return
    except _UNFIT as error:
        raise ConfigError(f"tracking.storage={redacted(url)}: {_why(url, error)}") from None


def _open_server(url: str, on_stale: OnStale | None, tell: Tell) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return _server(url, on_stale, tell)
        except (IntegrityError, ProgrammingError, StorageInternalError):
            time.sleep(_CREATE_S)  # another driver created the tables at the same moment
            return _server(url, on_stale, tell)


def _server(url: str, on_stale: OnStale | None, tell: Tell) -> RDBStorage:
    storage = PatientStorage(
        url, heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S, heartbeat_stale_trial_callback=on_stale,
        engine_kwargs={"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_S}},
    )  # fmt: skip
    storage.tell = _teller(url, tell)
    return storage


def _why(url: str, error: Exception) -> str:
    """Cause and remedy of an error of opening a storage."""
    if isinstance(error, ImportError):
        return (
            f"the driver of this database is not installed ({one_line(error)}): install it, e.g. psycopg for PostgreSQL"
        )
    text = one_line(cause_of(error))
    if url.startswith(PREFIX) and isinstance(error, RuntimeError):
        return f"it was made by another release of Optuna ({text}): use that one, or `optuna storage upgrade` on a copy"
    if url.startswith(PREFIX):
        return fault_of(url, error)
    if "authentication failed" in text or "no password supplied" in text or "Access denied" in text:
        return f"the server refuses the credentials ({text}): correct the address in the environment (OPTUNA_STORAGE)"
    if "does not exist" in text:
        return f"the server has no such database or user ({text}): create it, or correct the address"
    return f"cannot be opened ({text}): start the server, or correct the address"


@contextlib.contextmanager
def connections_of(studies: Sequence[optuna.Study]) -> Iterator[None]:
    """Connections to the studies' storages, closed at the end; a later call to one opens new ones."""
    try:
        yield
    finally:
        for database in map(database_of, studies):
            if isinstance(database, RDBStorage):
                database.engine.dispose()


def is_shared(study: optuna.Study) -> bool:
    """Whether several drivers may work on the study at a time."""
    return serves_many(storage_of(study))


def serves_many(storage: BaseStorage) -> bool:
    """Whether the storage is a server, on which drivers write heartbeats."""
    interval = getattr(storage, "get_heartbeat_interval", lambda: None)
    return interval() is not None


def beat(study: optuna.Study, trial: optuna.Trial) -> None:
    """Write a heartbeat of a trial; a storage that is not reachable is reported by the loop."""
    with contextlib.suppress(*FAULTS):
        record_heartbeat(study, trial)


def fail(study: optuna.Study, trial: FrozenTrial) -> bool:
    """End a running trial of another driver; False if it has been ended already."""
    with contextlib.suppress(UpdateFinishedTrialError):
        return end_trial(study, trial, TrialState.FAIL)
    return False


def end_stale(study: optuna.Study) -> None:
    """End the trials whose drivers fell silent; each is ended once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)


def _write_ahead(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
