"""A storage that waits for its database: a server that is restarted, or a file that another process has locked.

Every call is repeated until the database answers, for as long as `PATIENCE_S`. Repeating is safe: a call either wrote
everything or nothing, and a result that had arrived, although the answer was lost, is recognized.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from optimize.databases import is_locked
from optimize.search.optuna_compat import STORAGE_CALLS

T = TypeVar("T")
PATIENCE_S = 300.0
"""Seconds for which a call waits for its database."""
PAUSE_S = 2.0


def cause_of(error: BaseException) -> BaseException:
    """The database driver's own exception behind one of Optuna's or SQLAlchemy's."""
    inner = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    return getattr(inner, "orig", None) or inner


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later: the server is away, or another process has locked the file."""
    inner = error.__cause__ if isinstance(error, StorageInternalError) else error
    if type(cause_of(error)).__module__ == "sqlite3":
        return is_locked(cause_of(error))
    return isinstance(inner, OperationalError | InterfaceError) or bool(getattr(inner, "connection_invalidated", False))


class PatientStorage(RDBStorage):
    """Optuna's storage in a database, with calls that wait for it.

    Once it has waited in vain, later calls fail at once until one succeeds: a session that ends is not held up.
    Heartbeats do not wait: the next one is soon due. Its connections are closed when nobody uses it any more.

    Attributes:
        tell: Called with the fault when a call begins to wait.
    """

    tell: Callable[[Exception], None] = staticmethod(lambda _: None)
    _in_vain = False

    def __init__(self, url: str, **settings: Any) -> None:
        try:
            super().__init__(url, **settings)
        finally:  # also where the database is refused once it is connected
            if hasattr(self, "engine"):
                # At the end of the process the system closes them: a server that is away must not hold it up.
                weakref.finalize(self, self.engine.dispose).atexit = False

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        def attempt(is_retry: bool) -> bool:
            try:
                return super(PatientStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if is_retry and self._is_told(trial_id, state, values):
                    return True  # by the first attempt: only the answer was lost
                raise

        return self.repeat(attempt)

    def _is_told(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        trial = self.get_trial(trial_id)
        return trial.state is state and (values is None or trial.values == list(values))

    def repeat(self, attempt: Callable[[bool], T]) -> T:
        """What an attempt returns, repeated while the database does not answer; it is told whether it was tried before.

        Raises:
            Exception: of the last attempt.
        """
        deadline, is_retry = time.monotonic() + PATIENCE_S, False
        while True:
            try:
                result = attempt(is_retry)
            except (StorageInternalError, SQLAlchemyError) as error:
                if not is_passing(error):
                    raise
                if self._in_vain or time.monotonic() > deadline:
                    self._in_vain = True
                    raise
                if not is_retry:
                    self.tell(error)
                is_retry = True
                time.sleep(PAUSE_S)
            else:
                self._in_vain = False
                return result


def _patient(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @wraps(method)
    def call(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return self.repeat(lambda _: method(self, *args, **kwargs))

    return call


for _name in STORAGE_CALLS:
    setattr(PatientStorage, _name, _patient(_name))
