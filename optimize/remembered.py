"""Readings of a study that are made again only once there is more to read."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import optuna

T = TypeVar("T")


def remembered(read: Callable[[optuna.Study], T]) -> Callable[[optuna.Study], T]:
    """Read again only once more of a study's trials are complete: complete ones never change.

    Args:
        read: Depends on the complete trials of a study alone. What it returns must not be changed.
    """
    known: WeakKeyDictionary[optuna.Study, tuple[int, T]] = WeakKeyDictionary()

    @wraps(read)
    def reading(study: optuna.Study) -> T:
        count = sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))
        if study not in known or known[study][0] != count:
            known[study] = (count, read(study))
        return known[study][1]

    return reading
