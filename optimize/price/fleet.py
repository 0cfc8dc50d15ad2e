"""The cheapest machines for a rate of requests: of one kind, or of several where that is cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from optimize.formatting import markdown_line, percent
from optimize.price.estimate import MEASURED, Line
from optimize.study.capacity import replicas_for

_CENT = 0.01


@dataclass(frozen=True)
class Fleet:
    """Machines that together carry a rate.

    Attributes:
        machines: Each kind of machine and their number, which is positive.
        load_share: Load of each as a share of the lower end of its capacity's interval.
    """

    machines: Sequence[tuple[Line, int]]
    load_share: float

    @property
    def hourly_usd(self) -> float:
        return sum(count * (line.hardware.hourly_usd or 0.0) for line, count in self.machines)

    @property
    def carries_per_s(self) -> float:
        """Requests per second at this share of the capacity."""
        return sum(count * _rate(line, self.load_share) for line, count in self.machines)

    def in_words(self) -> str:
        return " + ".join(f"{count} × {line.hardware.name}" for line, count in self.machines)

    def to_dict(self) -> dict[str, Any]:
        machines = {line.hardware.name: count for line, count in self.machines}
        return {"machines": machines, "hourly_usd": self.hourly_usd, "carries_per_s": self.carries_per_s}


def fleets(rate_per_s: float, lines: Sequence[Line], load_share: float) -> list[Fleet]:
    """Fleets for a rate, the cheapest first: one of each kind of machine, and a mixture if it is cheaper than all.

    Args:
        rate_per_s: Requests per second.
        lines: Machines with a capacity.
        load_share: Load of each machine as a share of the lower end of its capacity's interval.
    """
    uniform = [Fleet([(line, _count(rate_per_s, line, load_share))], load_share) for line in lines]
    ranked = sorted(uniform, key=lambda fleet: fleet.hourly_usd)
    mixture = _mixture(rate_per_s, lines, load_share)
    return [mixture, *ranked] if mixture.hourly_usd < ranked[0].hourly_usd - _CENT else ranked


def _rate(line: Line, load_share: float) -> float:
    assert line.capacity is not None
    return load_share * line.capacity.low


def _count(rate_per_s: float, line: Line, load_share: float) -> int:
    assert line.capacity is not None
    return replicas_for(rate_per_s, line.capacity, load_share)


def _mixture(rate_per_s: float, lines: Sequence[Line], load_share: float) -> Fleet:
    """The cheapest numbers of all machines: an integer covering problem, solved exactly."""
    carried = np.array([_rate(line, load_share) for line in lines]) / rate_per_s
    prices = np.array([line.hardware.hourly_usd for line in lines], dtype=float)
    enough = LinearConstraint(carried[None, :], lb=1.0)
    most = [_count(rate_per_s, line, load_share) for line in lines]
    solution = milp(
        prices, integrality=np.ones(len(lines)), bounds=Bounds(0, most), constraints=enough,
        options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    counts = [round(n) for n in solution.x]
    return Fleet([(line, n) for line, n in zip(lines, counts, strict=True) if n], load_share)


def to_markdown(rate_per_s: float, ranked: Sequence[Fleet]) -> str:
    """The fleets as a section of the page on prices."""
    share = percent(ranked[0].load_share)
    head = ["fleet", "USD/hour", f"carries (requests/s) at {share}", "basis"]
    rows = [[_marked(f), f"{f.hourly_usd:.2f}", f"{f.carries_per_s:.3g}", _basis(f)] for f in ranked]
    parts = [
        f"## The cheapest fleet for {rate_per_s:g} requests/s", "",
        f"Each machine carries {share} of the lower end of its capacity's interval (deploy.autoscale.load_share); "
        "prices are inputs. A mixture needs a load balancer that weights its machines by what they carry.",
        "", *(markdown_line(row) for row in (head, ["---"] * len(head), *rows)),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _marked(fleet: Fleet) -> str:
    measured = all(line.basis == MEASURED for line, _ in fleet.machines)
    return fleet.in_words() if measured else f"≈ {fleet.in_words()}"


def _basis(fleet: Fleet) -> str:
    return "; ".join(dict.fromkeys(line.basis for line, _ in fleet.machines))
