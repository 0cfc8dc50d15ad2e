"""Figures of stored measurements, computed again from their requests by the metrics of another question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from objectives import Estimate, Measurement, Objective, RequestRecord
from objectives.cost import OutputTokenCost, RequestCost
from objectives.latency import LatencyQuantile, TimePerOutputToken, TimeToFirstAnswerToken, TimeToFirstToken
from objectives.throughput import ErrorRate, Goodput, OutputTokenRate, RequestRate
from optimize.config.whatif import WhatIf
from optimize.errors import ConfigError
from optimize.ledger import Ledger

_OF_REQUESTS = (LatencyQuantile, TimePerOutputToken, TimeToFirstAnswerToken, TimeToFirstToken, ErrorRate)
_COSTS = (OutputTokenCost, RequestCost)
_RATES = (Goodput, OutputTokenRate, RequestRate, *_COSTS)
"""Metrics that depend on the stored requests alone; rates need all of them, whatever prompts are asked for."""
Figures = Mapping[str, Estimate]


def is_computed(metric: Objective) -> bool:
    """Whether a metric's figures are computed again from requests; others stay as they were measured."""
    return isinstance(metric, (*_OF_REQUESTS, *_RATES))


@dataclass
class Figurer:
    """Computes figures again, those of each trial once.

    Attributes:
        ledger: The study's folder.
        metrics: Metric -> its estimator in the new question.
        settings: Which prompts count.
        throughput: Throughput of the hardware that prices are of, as a multiple of the measured machine's.
    """

    ledger: Ledger
    metrics: Mapping[str, Objective]
    settings: WhatIf
    throughput: float = 1.0
    _cache: dict[int, dict[str, Estimate]] = field(default_factory=dict, init=False, repr=False)

    def of(self, number: int, stored: Figures) -> dict[str, Estimate]:
        """The figures of a trial: from its requests where they suffice and are there, else as stored.

        Raises:
            ConfigError: no request of the trial is of the prompts that are asked for.
        """
        if number not in self._cache:
            self._cache[number] = self._computed(number)
        return {**stored, **self._cache[number]}

    def _computed(self, number: int) -> dict[str, Estimate]:
        window = self._window(number)
        if window is None:
            return {}
        part = replace(window, records=[r for r in window.records if self._counts(r)])
        if not part.due_in_window:
            raise ConfigError(
                f"trial {number} has no request of these prompts in its window: whatif.prompts names rows of the "
                "workload, whatif.prompt_tokens_min and _max lengths in tokens; ask for more of them"
            )
        estimates = {
            name: metric.estimate(window if isinstance(metric, _RATES) else part)
            for name, metric in self.metrics.items()
            if is_computed(metric)
        }
        return {name: self._priced(name, e) for name, e in estimates.items() if e is not None}

    def _window(self, number: int) -> Measurement | None:
        """The window of a trial; None where its requests are lost, and of a search for a capacity, which has many."""
        record = self.ledger.read(number)
        requests = self.ledger.read_requests(number) if record is not None else []
        if record is None or not requests or record.capacity or "window" not in record.seconds:
            return None
        start = record.seconds.get("warmup", 0.0)
        return Measurement(requests, start, start + record.seconds["window"], {})

    def _counts(self, request: RequestRecord) -> bool:
        settings, length = self.settings, request.prompt_tokens
        if settings.prompts and request.prompt_id not in settings.prompts:
            return False
        low, high = settings.prompt_tokens_min, settings.prompt_tokens_max
        if low is None and high is None:
            return True
        return length is not None and (low is None or length >= low) and (high is None or length <= high)

    def _priced(self, name: str, e: Estimate) -> Estimate:
        """A cost on the hardware that is asked for; any other figure as it is."""
        if not isinstance(self.metrics[name], _COSTS):
            return e
        return replace(e, value=e.value / self.throughput, low=e.low / self.throughput, high=e.high / self.throughput)
