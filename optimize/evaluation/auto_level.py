"""The level of a load that is set to `auto`: a share of what vLLM's defaults carry within the SLO, found once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optimize.capacity import Capacity, Kind, Unit
from optimize.capacity.estimator import estimate
from optimize.engine.base import TrialConfig
from optimize.engine.pool import EnginePool
from optimize.errors import ConfigError, EngineFailure, OptimizeError, TransientFault
from optimize.evaluation.references import reference_config
from optimize.evaluation.refusal import whole_reason
from optimize.load.clients import Clients
from optimize.load.clock import Clock, MonotonicClock
from optimize.load.generator import LoadControl, Traffic
from optimize.load.levels import AUTO, at_level, auto_setting
from optimize.load.prober import LiveProber
from optimize.load.service_level import search_of, slo_of
from optimize.plan import Plan

LEVEL = "load_level"
"""Part of the signature that names the level which `auto` came to."""
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Level:
    """What `auto` comes to.

    Attributes:
        value: Requests per second, or users.
        words: What it is and where it comes from, in one line.
        capacity: What it is a share of; None where it was set beforehand (`load.capacity.otherwise`).
    """

    value: float
    words: str
    capacity: Capacity | None = None


def is_auto(plan: Plan) -> bool:
    """Whether the level of the load is yet to be found."""
    return bool(auto_setting(plan.config.load.arrivals))


def at(plan: Plan, level: float) -> Plan:
    """The plan at a level of its load, which its signature names."""
    signature = {**plan.signature, LEVEL: f"{level:g} {_unit(plan)}"}
    return dataclasses.replace(plan, arrivals=at_level(plan.arrivals, level), signature=signature)


def baseline_config(plan: Plan, checkpoints: Mapping[str, str]) -> TrialConfig:
    """vLLM's defaults, with what the user has set for the baseline."""
    return plan.space.vllm_defaults(checkpoints, plan.space.baseline_overrides)


def ask(
    plan: Plan, config: TrialConfig, pool: EnginePool, clients: Clients, phase: Callable[[str], None],
    clock: Clock | None = None,
) -> Capacity:  # fmt: skip
    """Find what a configuration carries.

    Args:
        plan: Workload, SLO and search.
        config: The configuration.
        pool: Lends the engine.
        clients: Sends the requests.
        phase: Called with the name of each phase as it begins.
        clock: Times the probes; the clients must use the same one.

    Raises:
        EngineFailure: the engine cannot run, or refuses such requests.
        TransientFault, ConfigError: the endpoint throttles, or refuses the key.
    """
    clients.begin()
    with pool.lease(config.engine, lambda name: phase(f"starting the engine: {name}")) as lease:
        first_answers = config.request.beam_size not in lease.answered
        control = LoadControl(phase, first_answers, clock=clock or MonotonicClock())
        seed = plan.config.study.seed
        traffic = Traffic(plan.workload, config.request, plan.arrivals, plan.config.load, seed)
        prober = LiveProber(clients, lease.engine, traffic, control, plan.config.slo.latency_max_s)
        prober.await_first_answers()
        capacity = estimate(prober, slo_of(plan.config.slo), search_of(plan.config.load.capacity, plan.arrivals), seed)
        lease.answered.add(config.request.beam_size)
    return capacity


def level_from(plan: Plan, capacity: Capacity) -> float:
    """The level that a share of a capacity comes to; users are whole.

    Raises:
        ConfigError: the engine carries nothing within the SLO.
    """
    if capacity.value <= 0:
        binds = f", by {capacity.binds}" if capacity.binds else ""
        raise ConfigError(
            f"{_setting(plan)}: vLLM's defaults carry nothing within {plan.config.slo.in_words()}{binds}: loosen slo, "
            f"or give a number ({_setting(plan, '1')})"
        )
    level = plan.config.load.capacity.auto_share * capacity.value
    if capacity.unit is Unit.USERS:
        return float(max(1, math.floor(level)))
    return float(f"{level:.{_DIGITS}g}")


def level_of(plan: Plan, capacity: Callable[[], Capacity]) -> Level:
    """The level that `auto` comes to.

    Args:
        plan: The study's parts.
        capacity: Finds what vLLM's defaults carry.

    Raises:
        ConfigError, OptimizeError: as `required` and `level_from`, where `load.capacity.otherwise` gives no level, or
            asking once more may help.
    """
    otherwise = plan.config.load.capacity.otherwise
    try:
        measured = required(plan, capacity)
        level = level_from(plan, measured)
    except OptimizeError as error:
        is_final = isinstance(error, ConfigError) or isinstance(error.__cause__, EngineFailure)
        if otherwise is None or not is_final:
            raise
        return Level(otherwise, f"load: {otherwise:g} {_unit(plan)}, as load.capacity.otherwise says; {error}")
    return Level(level, in_words(plan, measured, level), measured)


def required(plan: Plan, capacity: Callable[[], Capacity]) -> Capacity:
    """A capacity without which there is no load.

    Raises:
        ConfigError: somebody else's endpoint refuses load.
        OptimizeError: the engine cannot run, or a client process ended.
    """
    try:
        return capacity()
    except (EngineFailure, TransientFault) as failure:
        remedy = f"give a number ({_setting(plan, '1')})"
        if plan.launcher.request_knobs_only:
            raise ConfigError(f"{_setting(plan)}: the endpoint refuses load: {failure}; {remedy}") from failure
        reason = whole_reason(failure, "")
        raise OptimizeError(
            f"{_setting(plan)}: what vLLM's defaults carry cannot be found here: {reason}; {remedy}"
        ) from failure


def in_words(plan: Plan, capacity: Capacity, level: float) -> str:
    """What the level is, and where it comes from."""
    unit, share = _unit(plan), plan.config.load.capacity.auto_share
    bound = "at least " if capacity.kind is Kind.AT_LEAST else ""
    interval = f" ({capacity.low:.3g} to {capacity.high:.3g})" if math.isfinite(capacity.high) else ""
    return (
        f"load: {level:g} {unit}, {100 * share:g} % of the {bound}{capacity.value:.3g}{interval} that vLLM's defaults "
        f"carry within {plan.config.slo.in_words()}; {len(capacity.probes)} probes, {capacity.load_s:.0f} s of load"
    )


def at_own_level(
    plan: Plan, pool: EnginePool, clients: Clients, say: Callable[[str], None], phase: Callable[[str], None]
) -> Plan:
    """The plan at the level of its load, which is found here where it is `auto`; for what is measured without a study.

    Raises:
        ConfigError, OptimizeError: as `level_of`.
    """
    if not is_auto(plan):
        return plan
    level = level_of(plan, lambda: ask(plan, reference_config(plan), pool, clients, phase))
    say(level.words)
    return at(plan, level.value)


def _unit(plan: Plan) -> str:
    return "users" if auto_setting(plan.config.load.arrivals) == "users" else "requests/s"


def _setting(plan: Plan, value: str = AUTO) -> str:
    return f"load.arrivals.{auto_setting(plan.config.load.arrivals)}={value}"
