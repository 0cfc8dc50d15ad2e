"""How long a profile of its own length, or a search for a capacity, will take: told before any engine starts. Pure."""

from __future__ import annotations

from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.load.arrivals import Arrivals, Trace
from optimize.traces.stretch import ALL, busiest_s, shown_s

_TOLD_S, _ASKED_FOR_S = 30 * 60.0, 12 * 3600.0
"""Total lengths from which the time is told, and from which a trace is replayed only where that is asked for."""
_OFFERED_S = 2 * 3600.0
"""Total length of what is offered in its place."""
_MINUTES = (1, 2, 3, 5, 10, 15, 20, 30)


def outlook(config: StudyConfig, arrivals: Arrivals, trials: int, confirmations: int = 0) -> str:
    """How long the measurements will take at least, in one line; empty where that is short, or follows the answers.

    Args:
        config: The study's configuration.
        arrivals: Its arrivals.
        trials: Measurements that are left, those of the confirmation apart.
        confirmations: Measurements of the confirmation that are left.

    Raises:
        ConfigError: a trace that nobody asked to replay for so long, or after which no trial could begin.
    """
    each_s = arrivals.duration_s
    if config.load.capacity.search:
        return _searches(config.load.capacity.load_max_s, trials, confirmations)
    if each_s is None:
        return ""
    total_s = each_s * (trials + confirmations)
    if isinstance(arrivals, Trace) and arrivals.part != ALL:
        _check(config, arrivals, total_s, _replays(each_s, trials, confirmations, total_s))
    if total_s < _TOLD_S:
        return ""
    line = f"{arrivals.describe()}: {_replays(each_s, trials, confirmations, total_s)}"
    fitting = _fitting(config, each_s)
    if fitting is not None and fitting < trials:
        line += f"; about {fitting} of these trials begin within study.minutes={config.study.minutes:g}"
    if isinstance(arrivals, Trace) and arrivals.part in (None, ALL):
        line += f"; {_offer(config, arrivals, trials + confirmations)}"
    return line


def _searches(each_s: float, trials: int, confirmations: int) -> str:
    confirming = f" and {confirmations} to confirm" if confirmations else ""
    return (
        f"a search for a capacity takes up to {shown_s(each_s)} of load (load.capacity.load_max_s), the {trials}"
        f"{confirming} of this run up to {shown_s(each_s * (trials + confirmations))}"
    )


def _replays(each_s: float, trials: int, confirmations: int, total_s: float) -> str:
    confirming = f" and {confirmations} to confirm" if confirmations else ""
    return f"a measurement takes {shown_s(each_s)}, the {trials}{confirming} of this run at least {shown_s(total_s)}"


def _fitting(config: StudyConfig, each_s: float) -> int | None:
    """Trials that begin within the time budget; None without one."""
    minutes = config.study.minutes
    return None if minutes is None else int(-(-minutes * 60 // each_s))


def _check(config: StudyConfig, trace: Trace, total_s: float, replays: str) -> None:
    each_s, minutes = trace.duration_s, config.study.minutes
    measurements = round(total_s / each_s)
    if minutes is not None and each_s >= minutes * 60 and measurements > 1:
        why = f"no trial beside the first would begin within study.minutes={minutes:g}"
    elif minutes is None and total_s > _ASKED_FOR_S and trace.part is None:
        why = "nobody has asked for so much (study.minutes, load.arrivals.part)"
    else:
        return
    raise ConfigError(
        f"load.arrivals.path={trace.path}: {replays}, and {why}: {_offer(config, trace, measurements)}; "
        "load.arrivals.part=all replays the whole all the same"
    )


def _offer(config: StudyConfig, trace: Trace, measurements: int) -> str:
    """The busiest minutes of a trace: as many as fit into the time, but enough for a window's answers."""
    minutes = config.study.minutes
    budget_s = _OFFERED_S if minutes is None else minutes * 60
    whole = trace.recording.requests
    counts = {span: _requests_in(trace, span * 60.0) for span in _MINUTES if span * 60 < whole.span_s}
    if not counts:
        return "load.arrivals.speed shortens it"
    short = [span for span in counts if span * 60 / trace.speed * measurements <= budget_s]
    enough = [span for span, requests in counts.items() if requests * trace.keep >= config.load.window_requests]
    span = max(max(short, default=min(counts)), min(enough, default=max(counts)))
    total_s = span * 60 / trace.speed * measurements
    return (
        f"load.arrivals.part=busiest:{span}min ({round(counts[span] * trace.keep):,} requests) takes at least "
        f"{shown_s(total_s)}"
    )


def _requests_in(trace: Trace, span_s: float) -> int:
    whole = trace.recording.requests
    start_s = busiest_s(whole, span_s)
    return int(((whole.offsets_s >= start_s) & (whole.offsets_s < start_s + span_s)).sum())
