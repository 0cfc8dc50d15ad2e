"""vLLM's own metrics: which of them are sampled, under which names."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

_GAUGES = {
    "vllm:kv_cache_usage_perc": "kv_cache_use",
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
}


_COUNTERS = {"vllm:num_preemptions_total": "preemptions", "vllm:generation_tokens_total": "generated_tokens"}


_WANTED = tuple([*_GAUGES, *_COUNTERS])


ENGINE_SERIES = frozenset([*_GAUGES.values(), *_COUNTERS.values()])
"""What the engine says of itself; all other series are the machine's."""


def parse_metrics(text: str) -> dict[str, float]:
    """The sampled figures within a Prometheus exposition of vLLM's.

    Counters add up over engines and API servers; gauges too, except the KV cache's share, whose highest counts.
    """
    # The parser is slow and the exposition long: hand it only the lines that are wanted.
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(_WANTED))
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(wanted + "\n"):
        for sample in family.samples:
            name = _GAUGES.get(sample.name) or _COUNTERS.get(sample.name)
            if name == "kv_cache_use":
                found[name] = max(found.get(name, 0.0), sample.value)
            elif name is not None:
                found[name] = found.get(name, 0.0) + sample.value
    return found
