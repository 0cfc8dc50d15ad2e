"""Schema of a capacity: the service-level objective that it keeps, and the search for it."""

from __future__ import annotations

from dataclasses import dataclass

from optimize.config.bounds import bounded, positive

QUANTILE = 0.99


@dataclass
class ServiceLevel:
    """The service-level objective (SLO): at least one limit, each of which most requests must be within.

    Attributes:
        latency_max_s: Limit on the time from due to complete answer.
        ttft_max_s: Limit on the time from due to first token.
        tpot_max_s: Limit on the mean time per output token after the first.
        quantile: Quantile at which each limit must hold: 0.99 limits P99.
        share: Share of requests that must be within all limits at once, as goodput counts them; it takes the place of
            `quantile`.
        error_rate_max: Largest share of requests that may fail; a failed request is within no limit either.
    """

    latency_max_s: float | None = positive(None)
    ttft_max_s: float | None = positive(None)
    tpot_max_s: float | None = positive(None)
    quantile: float = bounded(QUANTILE, above=0, below=1)
    share: float | None = bounded(None, above=0, below=1)
    error_rate_max: float = bounded(0.01, above=0, below=1)

    @property
    def limits(self) -> dict[str, float]:
        """Quantity of `objectives.RequestRecord` -> its limit in seconds."""
        limits = {"ttft_s": self.ttft_max_s, "tpot_s": self.tpot_max_s, "latency_s": self.latency_max_s}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def in_words(self) -> str:
        """One line, e.g. "P99 of ttft_s <= 0.5 s, errors <= 1 %"."""
        limits = [f"{name} <= {limit:g} s" for name, limit in self.limits.items()]
        if self.share is not None:
            words = f"{' and '.join(limits)} for {100 * self.share:g} % of requests"
        else:
            words = ", ".join(f"P{100 * self.quantile:g} of {limit}" for limit in limits)
        return f"{words}, errors <= {100 * self.error_rate_max:g} %"


@dataclass
class CapacitySearch:
    """The search for the load that an engine carries within the SLO; see `optimize.capacity`.

    Attributes:
        search: Whether the load is such a search, in place of one load; it starts at the level of `load.arrivals`.
        highest: Highest level, in requests per second or users; an engine that carries it carries "at least" so much.
        precision: Half-width of the interval, as a share of the capacity, at which a search ends.
        load_max_s: Seconds under load at which it ends with the interval that it has.
        probe_min_s: Shortest probe.
        auto_share: Share of the baseline's capacity that `auto` stands for in `load.arrivals`.
        otherwise: Level that `auto` stands for where the baseline does not run, or carries nothing within the SLO; null
            ends the study then. On a GPU, the loads that set themselves to `auto` give one.
    """

    search: bool = False
    highest: float = positive(1000.0)
    precision: float = bounded(0.1, above=0, below=1)
    load_max_s: float = positive(180.0)
    probe_min_s: float = positive(2.0)
    auto_share: float = bounded(0.8, above=0, most=1)
    otherwise: float | None = positive(None)
