"""Use of resources while the engine serves: processors, KV cache, cached prefixes, preemptions, accepted drafts."""

from __future__ import annotations

from objectives.base import Direction, Estimate, Measurement, Objective
from objectives.intervals import mean_interval
from objectives.turns import cached_share


class CpuUse(Objective):
    """Processor cores kept busy by the engine's process tree, mean over the window."""

    unit = "cores"
    direction = Direction.MINIMIZE

    def estimate(self, measurement: Measurement) -> Estimate | None:
        samples = measurement.samples("cpu_cores")
        return Estimate(*mean_interval(samples), n=len(samples), unit=self.unit) if samples else None


class KvCacheUse(Objective):
    """Highest share of the KV cache held by running requests during the window."""

    unit = "share"
    direction = Direction.MINIMIZE
    log_scale = False

    def estimate(self, measurement: Measurement) -> Estimate | None:
        samples = measurement.samples("kv_cache_use")
        return self.point(max(samples), len(samples)) if samples else None


class CachedPrefixShare(Objective):
    """Share of the prompts' tokens that the engine found in its prefix cache, over the window's answers.

    As the answers say it; where they do not, by the engine's own counters as one reading; None where it has neither.
    """

    unit = "share"
    direction = Direction.MAXIMIZE
    log_scale = False

    def estimate(self, measurement: Measurement) -> Estimate | None:
        share = cached_share(measurement.answered)
        if share is not None:
            return share
        queries, hits = (measurement.samples(f"prefix_cache_{name}") for name in ("queries", "hits"))
        if not queries or not hits or queries[-1] <= queries[0]:
            return None
        return self.point((hits[-1] - hits[0]) / (queries[-1] - queries[0]), len(queries))


class Preemptions(Objective):
    """Requests that the scheduler evicted from the KV cache during the window."""

    unit = "requests"
    direction = Direction.MINIMIZE
    log_scale = False

    def estimate(self, measurement: Measurement) -> Estimate | None:
        samples = measurement.samples("preemptions")
        return self.point(samples[-1] - samples[0], len(samples)) if samples else None


class DraftAcceptance(Objective):
    """Share of the tokens proposed in the window by speculative decoding that the model accepted.

    Absent without speculative decoding, and where nothing was proposed.
    """

    unit = "share"
    direction = Direction.MAXIMIZE
    log_scale = False

    series = "draft_tokens"

    def estimate(self, measurement: Measurement) -> Estimate | None:
        offered, accepted = measurement.samples(self.series), measurement.samples("accepted_tokens")
        number = offered[-1] - offered[0] if offered and accepted else 0.0
        return self.point((accepted[-1] - accepted[0]) / number, round(number)) if number > 0 else None


class AcceptedPerDraft(DraftAcceptance):
    """Tokens that the model accepted of each draft of speculative decoding, on average over the window.

    Each saves a step of the model. Absent where nothing was proposed.
    """

    unit = "tokens"
    series = "drafts"
