"""A fixed number of iterations in place of the adaptive lengths, to compare with figures measured that way. Pure.

In a closed loop an iteration is one request of every user, hence as many requests as are in flight; in an open loop,
which has no users, it is one request. Requests do not wait for each other: vLLM forms new batches at every step.
"""

from __future__ import annotations

from dataclasses import replace

from optimize.config.measuring import Load
from optimize.errors import ConfigError
from optimize.load.arrivals import Arrivals, ClosedLoop


def by_iterations(load: Load, arrivals: Arrivals) -> Load:
    """The load with the lengths that follow from `load.iterations`; the load itself where that is not set.

    Raises:
        ConfigError: arrivals that have a length of their own.
    """
    fixed = load.iterations
    if fixed.measured == 0:
        return load
    if arrivals.duration_s is not None:
        raise ConfigError(
            f"load.iterations does not go with {arrivals.describe()}, which has a length of its own: "
            "choose load=closed, poisson or constant"
        )
    together = arrivals.users if isinstance(arrivals, ClosedLoop) else 1
    return replace(
        load, warmup_s=0.0, warmup_requests=fixed.warmup * together, warmup_max_s=fixed.max_s, window_min_s=0.0,
        window_requests=fixed.measured * together, window_max_s=fixed.max_s, precision={},
    )  # fmt: skip
