"""Replicas over time under several rules, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from benchmarks.fleet import LOADS, MINUTE_S, WARM_S
from optimize.deploy.scaling import Scaling

matplotlib.use("Agg")
from matplotlib import pyplot

_COLOURS = ("#1f6f8b", "#c8553d", "#8a8a8a")


def draw(serving: Mapping[str, Mapping[str, Sequence[int]]], scaling: Scaling, path: Path) -> None:
    """Serving replicas by minute, and the replicas that the load needs at the measured capacity.

    Args:
        serving: Load -> rule -> replicas that serve, by minute.
        scaling: Scaling of the bundle.
        path: Where the picture goes.
    """
    figure, axes = pyplot.subplots(1, len(serving), figsize=(11, 3.8), sharey=True, layout="constrained")
    for panel, (name, rules) in zip(axes, serving.items(), strict=True):
        load, _ = LOADS[name]
        minutes = range(len(next(iter(rules.values()))))
        needed = [load(WARM_S + MINUTE_S * k) / scaling.capacity.value for k in minutes]
        panel.fill_between(minutes, needed, color="#dddddd", label="the load over the capacity of one replica")
        for (title, counts), colour in zip(rules.items(), _COLOURS, strict=True):
            panel.step(minutes, counts, where="post", color=colour, label=title)
        panel.set(title=name, xlabel="minutes", ylim=(0, scaling.replicas_max + 1))
        panel.grid(alpha=0.25)
    axes[0].set(ylabel="replicas that serve")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
