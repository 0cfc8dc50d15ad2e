"""From settings of a service-level objective, and of a search for a capacity, to those of `optimize.capacity`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from objectives import Objective
from objectives.capacity import CapacityObjective
from optimize.capacity import Capacity, Kind, Quantity, Search, Slo, SloLimit, Unit
from optimize.config.capacity import QUANTILE, CapacitySearch, ServiceLevel
from optimize.config.measuring import ALL
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.load.arrivals import Arrivals
from optimize.load.levels import AUTO, auto_setting, level_of, unit_of

_STREAMED = {"ttft_s": "ttft_max_s", "tpot_s": "tpot_max_s"}
"""Quantity that only a streamed answer shows -> its setting."""


def slo_of(settings: ServiceLevel) -> Slo:
    """The service-level objective of settings that `check_service_level` finds no fault with."""
    limits = (SloLimit(Quantity(name), most_s, settings.quantile) for name, most_s in settings.limits.items())
    return Slo(tuple(limits), settings.share, settings.error_rate_max)


def search_of(settings: CapacitySearch, arrivals: Arrivals, incumbent: float | None = None) -> Search:
    """The search for a capacity.

    Args:
        settings: Its settings.
        arrivals: The load, which has a level to start from.
        incumbent: The capacity to beat; None looks for the engine's own alone.
    """
    first = min(level_of(arrivals), settings.highest)
    return Search(
        unit_of(arrivals), first, settings.highest, precision=settings.precision, most_s=settings.load_max_s,
        incumbent=incumbent, probe_least_s=settings.probe_min_s,
    )  # fmt: skip


def load_in_words(config: StudyConfig, arrivals: Arrivals) -> str:
    """The load for signatures, e.g. "closed loop, 4 users" or "capacity in requests/s: P99 of ttft_s <= 0.5 s, ..."."""
    capacity, auto = config.load.capacity, auto_setting(config.load.arrivals)
    if not capacity.search and not auto:
        return arrivals.describe()
    kind = arrivals.describe().partition(",")[0]
    unit = "users" if unit_of(arrivals) is Unit.USERS else "requests/s"
    if auto:
        return f"{kind}, {unit} at {100 * capacity.auto_share:g} % of the baseline's capacity ({config.slo.in_words()})"
    ends = f"to {100 * capacity.precision:g} % or within {capacity.load_max_s:g} s of load"
    return f"capacity in {unit}, {kind}: {config.slo.in_words()} ({ends}, from {level_of(arrivals):g})"


def capacity_in_words(raw: Mapping[str, Any]) -> str:
    """A search for a capacity in one line.

    Args:
        raw: What a trial's record holds of it, see `optimize.outcome.Evaluation`.
    """
    capacity = Capacity.from_dict(raw)
    unit = "users" if capacity.unit is Unit.USERS else "requests/s"
    kind = {Kind.AT_LEAST: "at least ", Kind.AT_MOST: "at most "}.get(capacity.kind, "")
    limited = f", limited by {capacity.binds}" if capacity.binds else ""
    return (
        f"capacity: {kind}{capacity.value:.3g} {unit}{limited}; {len(capacity.probes)} probes, "
        f"{capacity.load_s:.0f} s of load, {capacity.requests} requests"
    )


def check_capacity(config: StudyConfig, arrivals: Arrivals, beams: int) -> None:
    """Refuse a search for a capacity, or a load set by one, that cannot be made.

    Args:
        config: The typed configuration.
        arrivals: The load.
        beams: Most beams of a request in the study.

    Raises:
        ConfigError: the rule, the value and the remedy.
    """
    search, auto = config.load.capacity.search, auto_setting(config.load.arrivals)
    if not search and not auto:
        return
    what = f"load.arrivals.{auto}={AUTO}" if auto else "a search for a capacity (load.capacity.search=true)"
    if search and auto:
        raise ConfigError(f"{what} asks for the load that load.capacity.search looks for: give a number to start from")
    if config.workload.turns == ALL:
        raise ConfigError(
            f"{what} sends each request by itself, and workload.turns=all sends conversations turn by turn: choose "
            "workload.turns=last"
        )
    baseline = config.baseline.get("beam_size") or 1
    _check_service_level(config.slo, beams if search else int(baseline), what)
    _check_search(config.load.capacity, arrivals)


def check_objectives(
    config: StudyConfig, arrivals: Arrivals, objectives: Mapping[str, Objective], bounded: Sequence[Objective]
) -> None:
    """Refuse a capacity that no load of the study shows.

    Args:
        config: The typed configuration.
        arrivals: The load.
        objectives: Objective -> its estimator.
        bounded: Estimators of the metrics that constraints bound.

    Raises:
        ConfigError: the load is no search for a capacity, or one in another unit.
    """
    for metric in (*objectives.values(), *bounded):
        if isinstance(metric, CapacityObjective):
            search, users = config.load.capacity.search, unit_of(arrivals) is Unit.USERS
            if not search or users != (metric.unit == "users"):
                right = "capacity_users" if metric.unit == "users" else "capacity"
                other = f", or name capacity_{'users' if users else 'per_s'} in its place" if search else ""
                raise ConfigError(
                    f"a capacity in {metric.unit} is found by a search for it, and this load is "
                    f"{load_in_words(config, arrivals)}: choose load={right}{other}"
                )


def _check_service_level(settings: ServiceLevel, beams: int, what: str) -> None:
    """Refuse limits that nothing could be measured against.

    Args:
        settings: The service-level objective.
        beams: Most beams of a request that it is to hold for.
        what: The setting that asks for a capacity, such as "load=capacity".

    Raises:
        ConfigError: no limit, limits that contradict each other, or limits that beam search shows nothing of.
    """
    limits = settings.limits
    if not limits:
        raise ConfigError(
            f"{what} needs a limit to keep, and slo has none: give slo.ttft_max_s, slo.tpot_max_s or slo.latency_max_s"
        )
    _check_contradictions(settings)
    streamed = [f"slo.{_STREAMED[name]}" for name in limits if name in _STREAMED]
    if streamed and beams > 1:
        raise ConfigError(
            f"{streamed[0]} limits what a streamed answer shows, and beam search (beam_size={beams}) streams none: "
            f"limit slo.latency_max_s alone ({' '.join(f'{name}=null' for name in streamed)}), or search without beams "
            "('~search_space.beam_size')"
        )


def _check_contradictions(settings: ServiceLevel) -> None:
    if settings.share is not None and settings.quantile != QUANTILE:
        raise ConfigError(
            f"slo.share={settings.share:g} takes the place of slo.quantile={settings.quantile:g}: give one of the two"
        )
    ttft_s, latency_s = settings.ttft_max_s, settings.latency_max_s
    if ttft_s is not None and latency_s is not None and ttft_s > latency_s:
        raise ConfigError(
            f"slo.ttft_max_s={ttft_s:g} is more than slo.latency_max_s={latency_s:g}, and no first token comes after "
            "the answer's end: lower the first, or leave it out (slo.ttft_max_s=null)"
        )


def _check_search(settings: CapacitySearch, arrivals: Arrivals) -> None:
    """Refuse a search that has nowhere to begin, or no time.

    Raises:
        ConfigError: arrivals without a level, one beyond the highest, or less time than a probe takes.
    """
    unit_of(arrivals)
    if level_of(arrivals) > settings.highest:
        raise ConfigError(
            f"load.arrivals begins at {level_of(arrivals):g}, which is more than "
            f"load.capacity.highest={settings.highest:g}: raise the second"
        )
    if settings.probe_min_s > settings.load_max_s:
        raise ConfigError(
            f"load.capacity.probe_min_s={settings.probe_min_s:g} is more than "
            f"load.capacity.load_max_s={settings.load_max_s:g}: raise the second"
        )
