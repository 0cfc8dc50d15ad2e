"""vLLM's metrics: those that are sampled, and their names in this project."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

_GAUGES = {
    "vllm:kv_cache_usage_perc": "kv_cache_use",
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
}
_COUNTERS = {
    "vllm:num_preemptions_total": "preemptions", "vllm:generation_tokens_total": "generated_tokens",
    "vllm:prefix_cache_queries_total": "prefix_cache_queries", "vllm:prefix_cache_hits_total": "prefix_cache_hits",
    "vllm:spec_decode_num_drafts_total": "drafts",  # these three are there with speculative decoding alone
    "vllm:spec_decode_num_draft_tokens_total": "draft_tokens",
    "vllm:spec_decode_num_accepted_tokens_total": "accepted_tokens",
}  # fmt: skip
_SAMPLED = tuple([*_GAUGES, *_COUNTERS])
_CACHE = "vllm:cache_config_info"
ENGINE_SERIES = frozenset([*_GAUGES.values(), *_COUNTERS.values()])
"""Series of the engine; all other series are the machine's."""


def parse_metrics(text: str) -> dict[str, float]:
    """The sampled figures of a Prometheus exposition of vLLM's.

    Counters and gauges are added up over engines and API servers, except the KV cache's share, of which the highest
    counts.
    """
    # The parser is slow and the exposition long, so it gets only the sampled lines.
    lines = "\n".join(line for line in text.splitlines() if line.startswith(_SAMPLED))
    figures: dict[str, float] = {}
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            name = _GAUGES.get(sample.name) or _COUNTERS.get(sample.name)
            if name == "kv_cache_use":
                figures[name] = max(figures.get(name, 0.0), sample.value)
            elif name is not None:
                figures[name] = figures.get(name, 0.0) + sample.value
    return figures


def cache_settings(text: str) -> dict[str, str]:
    """Settings of the KV cache, by vLLM's names, in a Prometheus exposition of vLLM's; empty where it has none."""
    lines = "\n".join(line for line in text.splitlines() if line.startswith(_CACHE))
    samples = [s for family in text_string_to_metric_families(lines + "\n") for s in family.samples]
    return dict(samples[0].labels) if samples else {}
