"""What a search asks for, and who applies the load for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from optimize.capacity.capacity import Unit
from optimize.capacity.requests import Requests

Enough = Callable[[Requests, float], bool]
"""Asked during a probe, with the requests that were due so far (those in flight too) and the seconds of load so far:
whether the probe may end."""


@dataclass(frozen=True, slots=True)
class ProbeRun:
    """What a probe has shown.

    Attributes:
        requests: Every request that was due while the load ran; none is in flight, and those that were cut have failed.
        load_s: Seconds for which the load was applied, draining not counted.
        client_kept_up: Whether the client applied the load as asked; where it did not, the engine is not to blame.
        ramp_s: Seconds before, in which the users came one after another.
    """

    requests: Requests
    load_s: float
    client_kept_up: bool = True
    ramp_s: float = 0.0


class Prober(Protocol):
    """Applies a level of load to one live engine."""

    def __call__(self, level: float, enough: Enough, most_s: float) -> ProbeRun:
        """Load an idle engine at a level until `enough`, which is asked about once a second, or for `most_s` seconds.

        Caches are reset and the queue of the last probe has drained before; the warm-up belongs to the result.
        """
        ...


@dataclass(frozen=True, slots=True)
class Search:
    """How a capacity is searched for.

    Attributes:
        unit: Of the levels.
        first: Where the ramp starts; a guess within a factor of 1000 does.
        highest: The client's reach: nothing above it is probed.
        lowest: Where the SLO must hold, or the capacity is zero; by default 1 user, or a 16th of `first`.
        precision: Half of the 95 % interval's width, as a share of the value, at which the search ends.
        most_s: Seconds of load in all; the search then ends with the interval that it has.
        incumbent: The capacity to beat; it is probed first, and failing there by far ends the search.
        probe_least_s: Seconds that every probe lasts at least.
    """

    unit: Unit
    first: float
    highest: float
    lowest: float | None = None
    precision: float = 0.1
    most_s: float = 300.0
    incumbent: float | None = None
    probe_least_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.first <= self.highest:
            raise ValueError(
                f"levels must ascend from above 0: lowest {self.floor:g}, first {self.first:g}, "
                f"highest {self.highest:g}"
            )
        if not 0 < self.precision < 1:
            raise ValueError(f"the precision must be between 0 and 1, not {self.precision:g}")
        if not 0 < self.probe_least_s <= self.most_s:
            raise ValueError(f"a probe of {self.probe_least_s:g} s does not fit into {self.most_s:g} s of load")

    @property
    def floor(self) -> float:
        """The lowest level."""
        if self.lowest is not None:
            return self.lowest
        return 1.0 if self.unit is Unit.USERS else self.first / 16
