"""All that the probes of a search have shown, and what follows for the capacity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from optimize.capacity.capacity import Probe, Unit
from optimize.capacity.evidence import (
    along_levels,
    answers_per_s,
    correlation_s,
    counted_s,
    dispersion,
    dof_of,
    falling,
    settled,
    severity,
)
from optimize.capacity.probing import ProbeRun
from optimize.capacity.requests import Flags, Floats
from optimize.capacity.response import TRUSTED, Counts, Posterior, misfit, posterior
from optimize.capacity.slo import ERRORS, JOINT, Slo

_NEAR = 1.5
_BEYOND = 2.0
_TAIL = 0.025
_UPPER = 0.9
_UNKNOWN = 2.0
"""Dispersion, and its degrees of freedom, where every probe was overloaded."""
SEQUENTIAL = 1.3
"""How much larger than it looks the dispersion is where the search ends, for it ends where the interval is narrow."""
_RARITY = 0.2
"""Power by which it is larger still where fewer than a tenth may miss: with fewer clumps to see there is more luck."""


@dataclass(frozen=True, slots=True)
class Belief:
    """The posteriors of the criteria that broke at some level; the capacity is the smallest of theirs.

    Where the same queue makes requests late for several criteria, the errors of their capacities go together. Quantiles
    of the smallest are therefore the smallest quantiles, which are right for errors that go together, and nearly so for
    independent ones.

    Attributes:
        posteriors: By criterion; at least one.
    """

    posteriors: Mapping[str, Posterior]

    def quantile(self, probability: float) -> float:
        return min(p.quantile(probability) for p in self.posteriors.values())

    @property
    def interval(self) -> tuple[float, float]:
        return self.quantile(_TAIL), self.quantile(1 - _TAIL)

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    @property
    def binding(self) -> str:
        return min(self.posteriors, key=lambda name: self.posteriors[name].quantile(0.5))

    @property
    def steepness(self) -> float:
        return self.posteriors[self.binding].steepness

    @property
    def drift(self) -> float:
        return self.posteriors[self.binding].drift


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A probe with what the posteriors need of it.

    Usable ones say something of the engine; whole ones are also long enough for the posteriors.
    """

    probe: Probe
    usable: bool
    whole: bool
    surplus: float
    answers_per_s: float
    values: Mapping[str, Floats]
    limits: Mapping[str, int]

    @property
    def middle_s(self) -> float:
        return self.probe.began_s + self.probe.load_s / 2

    def misses(self, name: str) -> Flags:
        return self.values[name] > (0 if name == ERRORS else 1)


@dataclass(slots=True)
class EvidenceBook:
    """All probes of a search.

    Attributes:
        slo: What must hold.
        unit: Of the levels.
        bounds: The lowest and the highest capacity that are considered.
    """

    slo: Slo
    unit: Unit
    bounds: tuple[float, float]
    _entries: list[_Entry] = field(default_factory=list)
    _beliefs: dict[tuple[int, bool], Belief | None] = field(default_factory=dict)

    @property
    def wait_max_s(self) -> float:
        """How long a queue must have grown before it breaks the SLO; 0 where users who wait send nothing meanwhile."""
        return self.slo.wait_max_s if self.unit is Unit.PER_S else 0.0

    @property
    def probes(self) -> tuple[Probe, ...]:
        return tuple(entry.probe for entry in self._entries)

    @property
    def load_s(self) -> float:
        return sum(entry.probe.ramp_s + entry.probe.load_s for entry in self._entries)

    def add(self, level: float, run: ProbeRun, whole: bool) -> Probe:
        """Enter a probe; one at which the client did not keep up says nothing of the engine."""
        requests = settled(run.requests, self.slo, run.load_s)
        values = severity(requests, self.slo)
        shares = {name: float(flags.mean()) if len(flags) else 1.0 for name, flags in self.slo.within(requests).items()}
        limits = {name: int((~flags).sum()) for name, flags in self.slo.limits_met(requests).items()}
        probe = Probe(level, run.load_s, len(requests), shares, self._verdict(values, shares), self.load_s, run.ramp_s)
        usable = run.client_kept_up and len(requests) > 0
        surplus = self._arrival_surplus(probe)
        self._entries.append(_Entry(probe, usable, whole and usable, surplus, answers_per_s(run), values, limits))
        return probe

    def _arrival_surplus(self, probe: Probe) -> float:
        """Logarithm of the rate that arrived as a ratio to the level; 0 of users, whose number is no chance."""
        if self.unit is Unit.USERS or not probe.requests:
            return 0.0
        return math.log(probe.requests / counted_s(probe.load_s) / probe.level)

    def _verdict(self, values: Mapping[str, Floats], shares: Mapping[str, float]) -> bool | None:
        """Whether every criterion holds for sure, or one fails for sure, by one probe."""
        surplus = []
        for name, least in self.slo.criteria().items():
            n = len(values[name]) / dispersion(values[name], _UPPER)
            surplus.append((shares[name] - least) / (2 * np.sqrt(least * (1 - least) / max(n, 1e-9))))
        if min(surplus) < -1:
            return False
        return True if min(surplus) > 1 else None

    def meets(self, level: float) -> bool:
        """Whether all shares are as large as they must be, of all requests at a level."""
        return self._surplus(level)[0] >= 0

    def _surplus(self, level: float) -> tuple[float, int]:
        """(the smallest surplus of a share, in units of the misses that are allowed; requests) at a level."""
        entries = [e for e in self._entries if e.probe.level == level and e.usable]
        requests = sum(e.probe.requests for e in entries)
        shares = {name: sum(e.probe.shares[name] * e.probe.requests for e in entries) for name in self.slo.criteria()}
        surplus = min((shares[name] / max(requests, 1) - x) / (1 - x) for name, x in self.slo.criteria().items())
        return (surplus if requests else 1.0), requests

    def bracket(self) -> tuple[float, float] | None:
        """The highest level that meets the SLO and the lowest that does not, if shares fall with the load; None before
        both are known."""
        levels = sorted({e.probe.level for e in self._entries if e.usable})
        surplus = falling([self._surplus(level) for level in levels])
        fails = [level for level, value in zip(levels, surplus, strict=True) if value < 0]
        holds = [level for level in levels if fails and level < fails[0]]
        return (holds[-1], fails[0]) if holds else None

    def highest(self) -> float:
        """The highest level that meets the SLO; 0 where none does."""
        return max((e.probe.level for e in self._entries if e.usable and self.meets(e.probe.level)), default=0.0)

    def requests_from(self, level: float) -> int:
        """Number of requests at a level and above."""
        return sum(e.probe.requests for e in self._entries if e.usable and e.probe.level >= level)

    def pace(self, level: float) -> float:
        """Answers per second of the last probe at a level."""
        return next(e.answers_per_s for e in reversed(self._entries) if e.probe.level == level)

    @property
    def any_whole(self) -> bool:
        return any(entry.whole for entry in self._entries)

    @property
    def whole_s(self) -> float:
        """Seconds of load of the whole probes."""
        return sum(entry.probe.load_s for entry in self._entries if entry.whole)

    def has_whole_near(self, level: float, ratio: float) -> bool:
        """Whether a whole probe has been run at a level, within a ratio."""
        return any(entry.whole and 1 / ratio < entry.probe.level / level < ratio for entry in self._entries)

    def broken(self) -> list[str]:
        """The criteria whose share was too small in some probe."""
        least = self.slo.criteria()
        return [name for name in least if any(e.probe.shares[name] < least[name] for e in self._entries if e.whole)]

    def correlation_s(self, level: float) -> float:
        """For how long requests depend on each other near a level; 0 where that is not known."""
        every = [correlation_s(values, e.probe.load_s) for e in self._whole_near(level) for values in e.values.values()]
        return max(every, default=0.0)

    def dispersion(self, level: float) -> float:
        """How much the misses clump near a level that meets the SLO; 1 where that is not known."""
        near = [e for e in self._whole_near(level) if self.meets(e.probe.level)]
        every = [dispersion(values, _UPPER) for e in near for values in e.values.values()]
        return max(every, default=1.0)

    def _whole_near(self, level: float) -> list[_Entry]:
        return [e for e in self._entries if e.whole and level / _NEAR < e.probe.level < level * _NEAR]

    def belief(self, narrow: bool = True) -> Belief | None:
        """What is known of the capacity; None while no criterion has been broken.

        Args:
            narrow: Whether the search ends because the interval is narrow, which it may be by luck.
        """
        key = len(self._entries), narrow
        if key not in self._beliefs:
            broken = self.broken()
            posteriors = {name: self._posterior(name, self._luck(name) if narrow else 1.0) for name in broken}
            self._beliefs[key] = Belief(posteriors) if broken else None
        return self._beliefs[key]

    def _luck(self, name: str) -> float:
        """How much larger than it looks the dispersion is where the search ends because the interval is narrow."""
        rarity = max(1.0, (1 - _UPPER) / (1 - self.slo.criteria()[name]))
        return float(SEQUENTIAL * rarity**_RARITY)

    def _posterior(self, name: str, allowance: float) -> Posterior:
        least, whole = self.slo.criteria()[name], [e for e in self._entries if e.whole]
        calm = [e for e in whole if e.probe.shares[name] >= least ** TRUSTED[1]]
        spread, dof = self._dispersions(calm, name, allowance)
        counts = [
            Counts(
                e.probe.level,
                e.middle_s,
                e.probe.requests,
                int(e.misses(name).sum()),
                spread(e.probe.level),
                self.wait_max_s / e.probe.load_s if e in calm else 0.0,
                e.surplus,
            )  # fmt: skip
            for e in whole
        ]
        fit = posterior(counts, least, dof, self._possible())
        scale = misfit(fit, [c for c, e in zip(counts, whole, strict=True) if e in calm], least)
        if scale == 1:
            return fit
        return posterior([replace(c, dispersion=c.dispersion * scale) for c in counts], least, dof, self._possible())

    def _possible(self) -> tuple[float, float]:
        """The lowest and the highest capacity that are considered: the bracket, and as much again to either side.

        Without it, probes whose misses clump leave some probability to every small capacity, and there are many.
        """
        bracket = self.bracket()
        if bracket is None:
            return self.bounds
        return max(self.bounds[0], bracket[0] / _BEYOND), min(self.bounds[1], bracket[1] * _BEYOND)

    def _dispersions(
        self, calm: Sequence[_Entry], name: str, allowance: float
    ) -> tuple[Callable[[float], float], float]:
        """(dispersion by level, so much larger than it looks; its degrees of freedom), from probes without overload."""
        if not calm:
            return lambda level: _UNKNOWN, _UNKNOWN
        levels = np.array([entry.probe.level for entry in calm])
        requests = np.array([entry.probe.requests for entry in calm], dtype=np.float64)
        dispersions = np.array([dispersion(e.values[name], _UPPER) for e in calm])
        dof = dof_of(dispersions, requests)
        return along_levels(levels, dispersions, dof, allowance), max(1.0, float(dof.sum()))

    def binds(self, belief: Belief) -> str:
        """The criterion that breaks first; of a joint share, the limit that most requests missed around there."""
        if belief.binding != JOINT:
            return belief.binding
        entries = [e for e in self._entries if e.probe.level >= belief.median / _NEAR] or self._entries
        names = [str(limit.quantity) for limit in self.slo.limits]
        return max(names, key=lambda name: sum(entry.limits[name] for entry in entries))
