"""Distributions that a search space may name beside Optuna's own."""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution

from optimize.errors import ConfigError


def powers_of_two(low: int, high: int) -> CategoricalDistribution:
    """The powers of two from `low` to `high`, for what each value of is compiled for anew.

    Raises:
        ConfigError: there are none.
    """
    powers = [1 << power for power in range(max(high, 0).bit_length()) if 1 << power >= low]
    if not powers:
        raise ConfigError(f"no power of two lies between low={low} and high={high}")
    return CategoricalDistribution(powers)
