"""Optuna's storages as tests open them, and the connections that others leave open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage


def storage_at(url: str) -> RDBStorage:
    """A storage that closes its connection after each call, so that no test leaves one to the next."""
    return RDBStorage(url, engine_kwargs={"poolclass": sqlalchemy.NullPool})


def study_at(url: str, name: str) -> optuna.Study:
    """A study as it is stored."""
    return optuna.load_study(study_name=name, storage=storage_at(url))


@contextmanager
def connections_to(database: Path) -> Iterator[dict[int, Any]]:
    """The connections to a SQLite file that are open, among those opened within."""
    connections: dict[int, Any] = {}  # which keeps them alive: one that is dropped is not closed

    def connect(connection: Any, _: object) -> None:
        if str(database) in {path for _, _, path in connection.execute("pragma database_list")}:
            connections[id(connection)] = connection

    def close(connection: Any, _: object) -> None:
        connections.pop(id(connection), None)

    sqlalchemy.event.listen(sqlalchemy.Pool, "connect", connect)
    sqlalchemy.event.listen(sqlalchemy.Pool, "close", close)
    try:
        yield connections
    finally:
        sqlalchemy.event.remove(sqlalchemy.Pool, "connect", connect)
        sqlalchemy.event.remove(sqlalchemy.Pool, "close", close)
