"""How fast searches gain hypervolume, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.ground_truth import Table
from benchmarks.replay import Step
from benchmarks.scoring import shares


def draw(series: Mapping[str, tuple[Sequence[list[Step]], str]], measurements: Table, path: Path) -> None:
    """Hypervolume against trials and against seconds: medians, with a band of the quartiles.

    Args:
        series: Studies of equally many trials and a colour, by name.
        measurements: The table they are judged by.
        path: Where the picture goes.
    """
    figure, (by_trial, by_second) = pyplot.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for name, (studies, colour) in series.items():
        curves = [shares(steps, measurements) for steps in studies]
        _band(by_trial, np.arange(1, len(curves[0]) + 1), np.array(curves), name, colour)
        seconds = np.linspace(0, 2400, 481)
        at = np.array([_over(seconds, steps, curve) for steps, curve in zip(studies, curves, strict=True)])
        _band(by_second, seconds / 60, at, name, colour)
    by_trial.set(xlabel="trials", ylabel="share of the table's hypervolume", xlim=(1, 100), ylim=(0, 1.02))
    by_second.set(xlabel="minutes, engine starts and the sampler's thinking included", xlim=(0, 40))
    for axes in (by_trial, by_second):
        axes.axhline(0.95, color="#999999", linewidth=0.8, linestyle="--")
        axes.grid(alpha=0.25)
    by_trial.legend(loc="lower right", frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def _over(seconds: Any, steps: Sequence[Step], curve: Sequence[float]) -> list[float]:
    ended = np.array([s.spent_s for s in steps])
    return [curve[n - 1] if n else 0.0 for n in np.searchsorted(ended, seconds, side="right")]


def _band(axes: Any, x: Any, curves: Any, name: str, colour: str) -> None:
    low, middle, high = np.percentile(curves, [25, 50, 75], axis=0)
    axes.plot(x, middle, color=colour, label=name)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
