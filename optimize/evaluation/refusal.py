"""Why a configuration has no figures: the whole reason, in words, and what it says about the configuration. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from optimize.engine.failures import decisive_lines
from optimize.errors import EngineFailure, FailureKind, OptimizeError
from optimize.load.pace import Pace
from optimize.outcome import Failed, Infeasible

_CROWDED = "end the other programs, or wait until they have ended, and run the same command again"
_SMALLER = "free memory, or take a smaller model, a shorter context or fewer sequences at once"
_REMEDIES = {
    FailureKind.HOST_OOM: _SMALLER,
    FailureKind.DEVICE_OOM: _SMALLER,
    FailureKind.REFUSED: "change the setting that vLLM names",
    FailureKind.TIMEOUT: "see where it stopped in engine.log, or give it longer (engine.start_timeout_s)",
    FailureKind.CRASH: "see the end of engine.log",
    FailureKind.TOO_SLOW: "ask for shorter answers (workload.max_tokens) or less at once, or take a smaller model",
    FailureKind.UNSETTLED: "lower the rate of load.arrivals, or measure users who wait for their answers (load=closed)",
}
_SLOWED = {FailureKind.TIMEOUT, FailureKind.TOO_SLOW, FailureKind.UNSETTLED}
"""Failures that a crowded machine may be the cause of."""
_OF_THE_MACHINE = {FailureKind.TIMEOUT, FailureKind.TOO_SLOW}
"""Those of them that are known to be the configuration's own on a quiet machine only.

A load that does not settle is not among them: it drifts on a quiet machine, too, and was measured more than once.
"""


def outcome_of(failure: EngineFailure, reason: str, pace: Pace | None = None) -> Infeasible | Failed:
    """What a failure says: a configuration that was too slow on a disturbed machine may be quick enough on a quiet one.

    Not so where the baseline was measured on a disturbed machine, too: it is too slow beside that.

    Args:
        failure: Why there are no figures.
        reason: The whole of it; see `whole_reason`.
        pace: The baseline's; None before it is measured.
    """
    if failure.disturbances and failure.kind in _OF_THE_MACHINE and not (pace and pace.disturbed):
        return Failed(reason, disturbed=True)
    return Infeasible(failure.kind, reason, failure.evidence)


def whole_reason(error: OptimizeError, phase: str, disturbances: Sequence[str] = (), log: str = "") -> str:
    """What an error says, followed by what else is known of its cause.

    Args:
        error: Why there are no figures.
        phase: The phase that it ended; left out where it is empty.
        disturbances: What disturbed the machine meanwhile, in words.
        log: The engine's log.
    """
    text = str(error)
    parts = [text, f"in phase {phase!r}" if phase else "", *disturbances, _logged(error, text, log)]
    parts.append(_remedy(error, bool(disturbances)))
    return "; ".join(part for index, part in enumerate(parts) if part and (not index or part not in text))


def _logged(error: OptimizeError, text: str, log: str) -> str:
    """The last decisive line of the log, unless the error quotes it already."""
    lines = error.evidence if isinstance(error, EngineFailure) and error.evidence else decisive_lines(log)
    return f"the engine's log: {lines[-1]}" if lines and not any(line in text for line in lines) else ""


def _remedy(error: OptimizeError, crowded: bool) -> str:
    if not isinstance(error, EngineFailure):
        return ""
    return _CROWDED if crowded and error.kind in _SLOWED else _REMEDIES[error.kind]
