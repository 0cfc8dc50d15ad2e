"""The load that an engine carries within a service-level objective; `optimize.capacity` finds it by probes."""

from __future__ import annotations

from objectives.base import Direction, Estimate, Measurement, Objective


class CapacityObjective(Objective):
    """A capacity in the unit of its class; None where the load is no search for one in that unit."""

    direction = Direction.MAXIMIZE

    def estimate(self, measurement: Measurement) -> Estimate | None:
        capacity = measurement.capacity
        return capacity if capacity is not None and capacity.unit == self.unit else None


class CapacityRate(CapacityObjective):
    """Largest rate of requests per second at which the service-level objective holds (open loop; load=capacity)."""

    unit = "1/s"


class CapacityUsers(CapacityObjective):
    """Largest number of users with whom the service-level objective holds (closed loop; load=capacity_users)."""

    unit = "users"
