"""The number of replicas for a rate, and the times that an autoscaler needs: pure arithmetic on measured figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from objectives import Estimate
from optimize.config.deploy import Autoscale
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.formatting import figure, percent
from optimize.study.capacity import capacity_in_words, replicas_for, required_capacity
from optimize.study.rows import StudyRow

SYNC_S = 15
"""Seconds between two decisions of Kubernetes' autoscaler (`--horizontal-pod-autoscaler-sync-period`)."""
_REACTIONS = 3
_WIDE = 1.5  # times the replicas that an exact capacity would need
_HOLD_MAX_S = 3600  # the most that the field may hold


@dataclass(frozen=True)
class Scaling:
    """Replicas for a rate.

    Attributes:
        rate_per_s: Requests per second at the peak.
        capacity: Measured capacity that replicas have on average, in requests per second.
        settings: Settings of the autoscaler.
        replicas_min: Fewest replicas.
        start_s: Seconds from a replica's creation until it serves; None while that is not known.
        rounds: Rounds of measurements that the capacity rests on; 0 for a single one.
    """

    rate_per_s: float
    capacity: Estimate
    settings: Autoscale
    replicas_min: int
    start_s: float | None = None
    rounds: int = 0

    @property
    def per_replica_per_s(self) -> float:
        """Requests per second that each replica is meant to carry."""
        return self.settings.load_share * self.capacity.low

    @cached_property
    def replicas(self) -> int:
        """Replicas for the rate."""
        needed = replicas_for(self.rate_per_s, self.capacity, self.settings.load_share)
        return max(self.replicas_min, needed)

    def in_words(self) -> str:
        """The replicas on one line, and what a narrower interval of the capacity could save."""
        words = (
            f"{self.replicas} replicas for {self.rate_per_s:g} requests/s: {self.per_replica_per_s:.3g} each, by "
            f"{self.evidence}"
        )
        by_value = replace(self, capacity=replace(self.capacity, low=self.capacity.value)).replicas
        if self.replicas < _WIDE * by_value:
            return words
        return (
            f"{words}; {by_value} if the capacity, {figure(self.capacity)}, were exact: measure it longer "
            "(load.capacity.load_max_s) or in more rounds (confirm.rounds)"
        )

    @property
    def evidence(self) -> str:
        """What the interval of the capacity is that of, for people."""
        if self.rounds:
            return f"the mean of {self.rounds} rounds: what engines differ by cancels out over many"
        return "a single measurement of the capacity"

    @property
    def replicas_max(self) -> int:
        return self.settings.replicas_max or self.replicas

    @property
    def reaction_s(self) -> float:
        """Seconds from a rise of the load until a replica that it calls for serves: seen, decided, started."""
        assert self.start_s is not None
        return self.settings.window_s + SYNC_S + self.start_s

    @property
    def hold_s(self) -> int:
        """Seconds for which a replica must have been superfluous before it is removed.

        A removed replica is missed for one reaction time when the load returns, so it is kept for three: the rule then
        sees the effect of its last decision before the next, and a load that comes and goes finds its replicas.
        """
        return min(_HOLD_MAX_S, math.ceil(_REACTIONS * self.reaction_s))


def scaling_of(row: StudyRow, config: StudyConfig) -> Scaling | None:
    """The scaling for `deploy.rate_per_s`; None where that is not set.

    Raises:
        ConfigError: the row has no usable capacity, `replicas_max` is too small, or nothing tells the start-up time.
    """
    deploy = config.deploy
    if deploy.rate_per_s is None:
        return None
    capacity = required_capacity(row, "deploy.rate_per_s")
    scaling = Scaling(
        deploy.rate_per_s, capacity, deploy.autoscale, deploy.replicas, deploy.autoscale.start_s,
        row.row.recommendation.rounds,
    )  # fmt: skip
    if scaling.replicas_max < scaling.replicas:
        raise ConfigError(
            f"deploy.autoscale.replicas_max={scaling.replicas_max} is less than the {scaling.replicas} replicas that "
            f"deploy.rate_per_s={deploy.rate_per_s:g} and deploy.replicas={deploy.replicas} need: raise it"
        )
    if scaling.start_s is None and not deploy.verify:
        raise ConfigError(
            "deploy.rate_per_s needs the start-up time of a replica: leave deploy.verify=true, which measures it, or "
            "set deploy.autoscale.start_s"
        )
    return scaling


def scale_figures(scaling: Scaling | None) -> dict[str, str]:
    """Figures of a bundle's README by name; none where no rate is named."""
    if scaling is None:
        return {}
    share = f"{percent(scaling.settings.load_share)} of the lower end of the capacity's interval"
    needed = (
        f"{scaling.replicas}: {scaling.rate_per_s:g} requests/s over {scaling.per_replica_per_s:.3g}, and at least "
    )
    figures = {
        "capacity of one replica": f"{capacity_in_words(scaling.capacity)}, by {scaling.evidence}",
        "load of one replica": f"{scaling.per_replica_per_s:.3g} requests/s: {share} (deploy.autoscale.load_share)",
        "replicas": f"{needed}{scaling.replicas_min} (deploy.replicas)",
    }
    return figures if scaling.start_s is None else {**figures, **_times(scaling)}


def _times(scaling: Scaling) -> dict[str, str]:
    parts = (
        f"{scaling.settings.window_s:g} s of rates, {SYNC_S} s between decisions, {scaling.start_s:.3g} s of start-up"
    )
    return {
        "reaction": f"{scaling.reaction_s:.3g} s: {parts}",
        "removal": f"after {scaling.hold_s} s without need: {_REACTIONS} reactions, at most {_HOLD_MAX_S} s",
    }
