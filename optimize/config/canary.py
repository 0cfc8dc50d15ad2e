"""Schema of the canary of `python -m optimize.serve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from optimize.config.bounds import bounded, positive


@dataclass
class Canary:
    """A second configuration that gets a copy of live requests, and takes over if it is proven to be as good. There is
    none unless `row` or `at` names one.

    Attributes:
        row: The candidate: a row of the study, as for `row`; null for the row that is served, changed by `at`.
        at: Knob -> value in which the candidate differs from that row.
        share: Share of the time in which every completion is mirrored to it; 1 for all the time.
        window_s: Seconds in which requests are compared, each time.
        block_s: Least length of the stretches that each give one value of the times; they are four answers long if that
            is more, because pairs that overlap depend on each other.
        margin: How much slower than the serving engine it may be and still take over, as a share.
        failures_max: Share of requests that it may fail where the serving engine answers.
        agreement_min: Share of a greedy answer, on average, that must be the same up to the first different word; null
            does not judge answers.
        alpha: Largest probability of a wrong verdict, although every pair is looked at.
        minutes: Time limit, after which a candidate without a verdict is rolled back.
        in_flight_max: Most mirrored requests that the candidate has at a time; further ones are not mirrored.
    """

    row: str | None = None
    at: dict[str, Any] = field(default_factory=dict)
    share: float = bounded(0.1, above=0, most=1)
    window_s: float = positive(10.0)
    block_s: float = positive(5.0)
    margin: float = bounded(0.1, above=0, most=4)
    failures_max: float = bounded(0.01, above=0, below=1)
    agreement_min: float | None = bounded(0.5, above=0, below=1)
    alpha: float = bounded(0.05, above=0, most=0.5)
    minutes: float = positive(240.0)
    in_flight_max: int = positive(256)

    @property
    def enabled(self) -> bool:
        """Whether a candidate is named."""
        return self.row is not None or bool(self.at)
