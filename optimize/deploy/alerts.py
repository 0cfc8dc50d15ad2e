"""Alert rules on vLLM's own metrics, with a mitigation for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from objectives import Estimate
from optimize.config.deploy import Alerts, Levels
from optimize.deploy.arrivals import ENDED, RUNNING, WAITING, arrivals_expr
from optimize.deploy.knee import LoadPoint

WARNING, CRITICAL = "warning", "critical"
ENGINE_METRICS = (
    "vllm:request_queue_time_seconds_bucket",
    "vllm:num_requests_waiting",
    "vllm:num_requests_running",
    "vllm:num_preemptions_total",
    "vllm:kv_cache_usage_perc",
    "vllm:request_success_total",
    "vllm:generation_tokens_total",
    "vllm:inter_token_latency_seconds_sum",
    "vllm:inter_token_latency_seconds_count",
    "vllm:e2e_request_latency_seconds_bucket",
    "vllm:e2e_request_latency_seconds_sum",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:time_to_first_token_seconds_bucket",
)
"""All of vLLM's series that rules and dashboard use; a live test checks that each exists."""
NODE_METRICS = ("node_cpu_seconds_total",)
_BY = "instance, model_name"
_ENGINE = 'instance="localhost:8000", model_name="m"'
_READINGS = 90  # of each series in an example

Series = Mapping[str, str]
"""Series -> its values in promtool's notation."""


@dataclass(frozen=True)
class Alert:
    """One alert rule.

    Attributes:
        name: Name of the alert.
        severity: WARNING or CRITICAL.
        expr: Expression in PromQL.
        for_s: Seconds for which it must hold.
        summary: The problem, in words.
        mitigation: Measures against it.
        labels: Labels that the alert takes over from its series.
        fires: Examples that must raise it, for promtool.
        silent: Examples that must not raise it.
    """

    name: str
    severity: str
    expr: str
    for_s: float
    summary: str
    mitigation: str
    labels: Mapping[str, str]
    fires: Sequence[Series]
    silent: Sequence[Series]


_PAGING = (
    "Requests wait for KV blocks: give the KV cache more memory (kv_cache_memory_bytes, gpu_memory_utilization) or "
    "preload it; reduce beam_size; scale out."
)
_DECODE = "Decoding is slow: reduce beam_size; reduce batch_size (max_num_seqs); scale out."
_CPU = "The CPUs are saturated: scale out; reduce beam_size; move other programs to other machines."
_CAPACITY = "More requests arrive than the engine carries within its objective with room to spare: scale out."
_DOWN = "The engine does not answer: read its log and restart it; keep a warm standby; scale out."


def alerts_of(
    settings: Alerts, beam_size: int = 1, knee: LoadPoint | None = None, capacity: Estimate | None = None
) -> list[Alert]:
    """All rules.

    Args:
        settings: Thresholds.
        beam_size: Beams of the deployed row. Beam search runs as one-token requests, which have no time between tokens.
        knee: Knee of the row's load curve, if it was measured.
        capacity: The row's capacity in requests per second, if it was measured.

    Raises:
        ConfigError: thresholds that contradict each other.
    """
    settings = at_knee(settings, knee) if knee is not None and settings.from_knee else settings
    rules: list[Alert] = []
    for severity in (WARNING, CRITICAL):
        rules += [_paging(settings, severity), _decode(settings, severity, beam_size), _cpu(settings, severity)]
        rules += [] if capacity is None else [_capacity(settings, severity, capacity)]
    return [*rules, _down(settings)]


def at_knee(settings: Alerts, knee: LoadPoint) -> Alerts:
    """Settings that warn at the knee's waiting time, with critical in proportion; never above the configured levels."""
    return replace(settings, queue_s=_scaled(settings.queue_s, knee.queue_s))


def _scaled(levels: Levels, warn: float) -> Levels:
    # With a wait near zero at the knee, the first request that waits at all would raise the alarm.
    warn = min(levels.warn, max(warn, levels.warn / 10))
    return replace(levels, warn=round(warn, 4), critical=round(warn * levels.critical / levels.warn, 4))


def _level(levels: Levels, severity: str) -> tuple[float, float]:
    if severity == WARNING:
        return levels.warn, levels.warn_for_s
    return levels.critical, levels.critical_for_s


def duration(seconds: float) -> str:
    """A duration in Prometheus' notation, which has no fractions."""
    return f"{seconds:g}s" if float(seconds).is_integer() else f"{round(seconds * 1000)}ms"


def _rate(metric: str, window_s: float, by: str = _BY) -> str:
    return f"sum by ({by}) (rate({metric}[{duration(window_s)}]))"


def queue_expr(settings: Alerts) -> str:
    """Expression of the waiting time's quantile."""
    rate = _rate("vllm:request_queue_time_seconds_bucket", settings.window_s, f"le, {_BY}")
    return f"histogram_quantile({settings.quantile:g}, {rate})"


def decode_expr(settings: Alerts, beam_size: int) -> str:
    """Expression of the seconds per token: between tokens of an answer, or of one step of beam search."""
    name = "inter_token_latency" if beam_size == 1 else "e2e_request_latency"
    both = [_rate(f"vllm:{name}_seconds_{part}", settings.window_s) for part in ("sum", "count")]
    return " / ".join(both)


def cpu_expr(settings: Alerts) -> str:
    """Expression of the busy share of the machine's CPUs; time that the hypervisor withholds counts as busy."""
    idle = _rate('node_cpu_seconds_total{mode=~"idle|iowait"}', settings.cpu_window_s, "instance")
    return f'1 - {idle} / count by (instance) (node_cpu_seconds_total{{mode="idle"}})'


def _paging(settings: Alerts, severity: str) -> Alert:
    limit, for_s = _level(settings.queue_s, severity)
    # vLLM reports a wait only once the request is answered, and only its first. By Little's law the present wait is the
    # number of waiting requests, preempted ones included, over answers per second: infinite while there are none.
    waiting = f"sum by ({_BY}) (vllm:num_requests_waiting)"
    wait_s = f"{waiting} / {_rate('vllm:request_success_total', settings.window_s)}"
    return Alert(
        f"VllmPaging{severity.title()}", severity, f"{queue_expr(settings)} > {limit:g} or {wait_s} > {limit:g}", for_s,
        f"requests wait longer than {limit:g} s for a place in the batch or for KV blocks", _PAGING,
        {"instance": "localhost:8000", "model_name": "m"},
        [
            _queue_example(limit, 4 * limit),
            _standing_example(("vllm:num_requests_waiting", 5), ("vllm:request_success_total", 7)),
        ],
        [
            _queue_example(limit / 4, limit / 2),
            _standing_example(("vllm:num_requests_waiting", 0), ("vllm:request_success_total", 7)),
        ],
    )  # fmt: skip


def _queue_example(low: float, high: float) -> Series:
    """Waits that all lie between two bounds."""
    name = "vllm:request_queue_time_seconds_bucket"
    counts = {f"{low:g}": "0", f"{high:g}": "10", "+Inf": "10"}
    return {f'{name}{{{_ENGINE}, le="{le}"}}': f"0+{step}x{_READINGS}" for le, step in counts.items()}


def _standing_example(*values: tuple[str, int]) -> Series:
    """Series that do not change."""
    return {f"{name}{{{_ENGINE}}}": f"{value}x{_READINGS}" for name, value in values}


def _decode(settings: Alerts, severity: str, beam_size: int) -> Alert:
    limit, for_s = _level(settings.decode_s, severity)
    name = "inter_token_latency" if beam_size == 1 else "e2e_request_latency"
    running = f"sum by ({_BY}) (vllm:num_requests_running) > 0"
    stalled = f"{running} and {_rate('vllm:generation_tokens_total', settings.window_s)} == 0"
    return Alert(
        f"VllmDecodeSlow{severity.title()}", severity,
        f"{decode_expr(settings, beam_size)} > {limit:g} or ({stalled})", for_s,
        f"a token takes longer than {limit:g} s, or no token is generated", _DECODE,
        {"instance": "localhost:8000", "model_name": "m"},
        [
            _mean_example(name, 1.5 * limit),
            _standing_example(("vllm:num_requests_running", 3), ("vllm:generation_tokens_total", 9)),
        ],
        [
            _mean_example(name, 0.5 * limit),
            _standing_example(("vllm:num_requests_running", 0), ("vllm:generation_tokens_total", 9)),
        ],
    )  # fmt: skip


def _mean_example(name: str, mean: float) -> Series:
    return {
        f"vllm:{name}_seconds_sum{{{_ENGINE}}}": f"0+{10 * mean:g}x{_READINGS}",
        f"vllm:{name}_seconds_count{{{_ENGINE}}}": f"0+10x{_READINGS}",
    }


def _cpu(settings: Alerts, severity: str) -> Alert:
    limit, for_s = _level(settings.cpu, severity)
    return Alert(
        f"CpuExhausted{severity.title()}", severity, f"{cpu_expr(settings)} > {limit:g}", for_s,
        f"more than {limit:.0%} of the CPUs are busy", _CPU, {"instance": "localhost:9100"},
        [_cpu_example(settings, (1 - limit) / 2)], [_cpu_example(settings, 2 * (1 - limit))],
    )  # fmt: skip


def _cpu_example(settings: Alerts, idle: float) -> Series:
    """Two CPUs that are idle for this share of the time, half of it waiting for a disk."""
    step = idle * settings.scrape_s / 2
    return {
        f'node_cpu_seconds_total{{instance="localhost:9100", cpu="{cpu}", mode="{mode}"}}': f"0+{step:.6g}x{_READINGS}"
        for cpu in (0, 1)
        for mode in ("idle", "iowait")
    }


def _capacity(settings: Alerts, severity: str, capacity: Estimate) -> Alert:
    share, for_s = _level(settings.capacity, severity)
    limit = share * capacity.low
    return Alert(
        f"VllmCapacity{severity.title()}", severity,
        f"{arrivals_expr(duration(settings.window_s), by=_BY)} > {limit:.4g}", for_s,
        f"more than {limit:.3g} requests/s arrive, {share:.0%} of the capacity's lower bound", _CAPACITY,
        {"instance": "localhost:8000", "model_name": "m"},
        [_arrivals_example(settings, 1.2 * limit, 0), _arrivals_example(settings, 0.6 * limit, 0.6 * limit)],
        [_arrivals_example(settings, 0.8 * limit, 0)],
    )  # fmt: skip


def _arrivals_example(settings: Alerts, ended_per_s: float, growth_per_s: float) -> Series:
    """Requests that end at a rate, while the number of those that wait grows."""
    ended, growth = ended_per_s * settings.scrape_s, growth_per_s * settings.scrape_s
    return {
        f"{ENDED}{{{_ENGINE}}}": f"0+{ended:.6g}x{_steps(settings)}",
        f"{RUNNING}{{{_ENGINE}}}": f"2x{_steps(settings)}",
        f"{WAITING}{{{_ENGINE}}}": f"0+{growth:.6g}x{_steps(settings)}",
    }


def _steps(settings: Alerts) -> int:
    """Readings until the slower of the two rules must have fired."""
    longest_s = max(settings.capacity.warn_for_s, settings.capacity.critical_for_s)
    return math.ceil((longest_s + settings.window_s) / settings.scrape_s) + _READINGS


def _down(settings: Alerts) -> Alert:
    series = 'up{job="vllm", instance="localhost:8000"}'
    return Alert(
        "VllmDown", CRITICAL, 'up{job="vllm"} == 0', settings.down_for_s,
        "the engine's metrics cannot be read", _DOWN, {"instance": "localhost:8000", "job": "vllm"},
        [{series: f"0x{_READINGS}"}], [{series: f"1x{_READINGS}"}],
    )  # fmt: skip
