"""Interval for the mean of values from 0 to 1 that holds however often it is looked at, by betting. Pure.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024), section 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_POINTS = 402
_STAKES = np.geomspace(0.05, 0.98, 6)
"""Shares of the capital that the bettors stake. Their average is a bettor too, and follows the best of them."""


class BettingSequence:
    """A confidence sequence for a mean.

    For each possible mean m, bettors win where values lie above m, and others where they lie below. If m is the true
    mean, the game is fair, and the probability that the capital ever reaches 1/alpha is at most alpha (Ville's
    inequality). A capital of 1/alpha therefore refutes m, whenever one looks. The values need no common distribution:
    it is enough that the mean of each, as seen from the past, is m.

    Args:
        border: A mean, from 0 to 1, that will be tested exactly.
    """

    def __init__(self, border: float) -> None:
        grid = np.append(np.linspace(0, 1, _POINTS)[1:-1], border)
        self._means = np.unique(grid[(grid > 0) & (grid < 1)])
        self._border = border
        shape = (len(_STAKES), len(self._means))
        self._above, self._below = np.zeros(shape), np.zeros(shape)
        self.count, self._sum = 0, 0.0

    @property
    def mean(self) -> float:
        """The mean of the values so far; NaN before the first."""
        return self._sum / self.count if self.count else float("nan")

    def add(self, value: float) -> None:
        """Let everybody bet on one more value, from 0 to 1."""
        self.count, self._sum = self.count + 1, self._sum + value
        self._above += _log_gain(value, self._means)
        self._below += _log_gain(1 - value, 1 - self._means)

    def interval(self, alpha: float) -> tuple[float, float]:
        """(Low, high): the probability that the mean ever lies below low is at most alpha; likewise above high.

        The mean of the values so far lies within. Earlier intervals are not intersected with this one: where the values
        drift, that would leave an interval beside their mean, or none.
        """
        too_low = self._means[_average(self._above) >= -np.log(alpha)]
        too_high = self._means[_average(self._below) >= -np.log(alpha)]
        return float(too_low.max(initial=0.0)), float(too_high.min(initial=1.0))

    def lies_below(self, alpha: float) -> bool:
        """Whether the mean is proven to be less than the border."""
        return self.interval(alpha)[1] <= self._border

    def lies_above(self, alpha: float) -> bool:
        """Whether the mean is proven to be more than the border."""
        return self.interval(alpha)[0] >= self._border


def _log_gain(value: float, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each stake turns into at each mean, as a logarithm, of shape (stakes, means)."""
    gains: NDArray[np.float64] = np.log1p(np.outer(_STAKES, value / means - 1))
    return gains


def _average(log_capital: NDArray[np.float64]) -> NDArray[np.float64]:
    average: NDArray[np.float64] = np.logaddexp.reduce(log_capital, axis=0) - np.log(len(_STAKES))
    return average
