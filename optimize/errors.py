"""All errors of this project, as one tree.

OptimizeError
├── ConfigError         bad input, found before any engine starts: one line, exit code 2
├── DamagedFile         a file of a study that cannot be read: it is named and left out, the rest goes on
├── EngineFailure       a configuration that cannot run, or an engine that died; the search learns from it
│                       (kind: host_oom, device_oom, refused, timeout, crash, too_slow, unsettled)
└── TransientFault      a fault of the environment (port taken, connection lost): retried once
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum


class OptimizeError(Exception):
    """Base of all errors this project raises on purpose."""


class ConfigError(OptimizeError):
    """Bad input. The message states the rule, the offending value and the remedy, in one line."""


class DamagedFile(OptimizeError):
    """A file of a study that cannot be read. The message names it, what is wrong with it and the remedy."""


class FailureKind(StrEnum):
    """Why a configuration could not be measured."""

    HOST_OOM = "host_oom"
    DEVICE_OOM = "device_oom"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    CRASH = "crash"
    TOO_SLOW = "too_slow"
    UNSETTLED = "unsettled"


class EngineFailure(OptimizeError):
    """A configuration that cannot run, or an engine that died under load.

    Attributes:
        kind: The class of the failure.
        evidence: The decisive lines of the engine's log, possibly empty.
        disturbances: What disturbed the machine meanwhile, in words; None where it was not looked at.
    """

    disturbances: tuple[str, ...] | None = None

    def __init__(self, kind: FailureKind, message: str, evidence: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.evidence = evidence


class TransientFault(OptimizeError):
    """A fault that says nothing about the configuration; the trial is worth one retry."""


def closest(name: str, valid: Iterable[str]) -> str:
    """A hint naming the valid spelling nearest to `name`, or all of them where none is near."""
    options = sorted(valid)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    listed = ", ".join(options[:12]) + (", …" if len(options) > 12 else "")
    return f"valid: {listed or 'none'}"


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error says, on one line of at most `most` characters; its class where it says nothing."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = text.partition("[SQL: ")[0]  # what SQLAlchemy says of the statement
    return " ".join(text.split())[:most] or type(error).__name__


@contextmanager
def setting_names(names: Mapping[str, str]) -> Iterator[None]:
    """Bad input within is refused by the names of the settings as the user wrote them.

    A command hands settings on under other names: the row of a canary is the row of a study, and one configuration is a
    search space of one point.

    Args:
        names: Name of a setting within, or how it begins -> what the user wrote in its place.
    """
    try:
        yield
    except ConfigError as error:
        message = str(error)
        for inner, own in names.items():
            message = own.join(re.split(rf"(?<![\w.]){re.escape(inner)}", message))
        raise ConfigError(message) from error
