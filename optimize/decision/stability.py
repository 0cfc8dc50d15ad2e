"""How sure a decision is: how often candidates measured afresh would be decided the same way. Pure.

Stored measurements have two components of variance on logarithms (`optimize.decision.block_design`): what all of one
round have in common, and what each has for itself. A confirmation of R rounds, measured afresh, differs from the stored
mean of n measurements by variances of (1/n + 1/R) times these. Draws of that difference are decided one by one. Few
rounds make variances uncertain: draws are Student's t, with the degrees of freedom of the block design.

A metric that is not positive throughout, such as a share of errors of zero, is drawn as it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimize.decision.candidate import Candidate
from optimize.decision.standings import Array, Shifts, Standings

DRAWS = 4000


@dataclass(frozen=True)
class Noise:
    """How far single measurements differ for no reason.

    Attributes:
        components: Metric -> variance of its logarithm in common within a round, and by itself.
        readings: Candidate's number -> how many measurements its figures are the mean of.
        rounds: Rounds of the confirmation that would be measured afresh.
        dof: Degrees of freedom of either component.
    """

    components: Mapping[str, tuple[float, float]]
    readings: Mapping[int, int]
    rounds: int
    dof: tuple[float, float]


@dataclass(frozen=True)
class Stability:
    """What comes of measuring afresh.

    Attributes:
        picks: Candidate's number -> probability that it is picked; those of zero are left out.
        none: Probability that nothing keeps every limit.
        keeps: Candidate's number -> name of a limit -> probability that it is kept.
    """

    picks: Mapping[int, float]
    none: float
    keeps: Mapping[int, Mapping[str, float]]


def stability(standings: Standings, noise: Noise, draws: int = DRAWS) -> Stability:
    """Decide about candidates measured afresh, many times.

    Args:
        standings: The candidates, and what decides.
        noise: How far measurements differ.
        draws: How many times.
    """
    candidates, limits = standings.candidates, standings.terms.limits
    shifts = _shifts(candidates, noise, draws)
    scores = np.broadcast_to(standings.scores(shifts), (draws, len(candidates)))
    feasible = standings.feasible(shifts) & np.isfinite(scores)
    best = standings.picks(np.where(feasible, scores, -np.inf).argmax(1), feasible)
    some = np.broadcast_to(feasible, scores.shape).any(1)
    counts = np.bincount(best[some], minlength=len(candidates)) / draws
    keeps = {limit.name: standings.keeps(limit, shifts).mean(0) for limit in limits}
    return Stability(
        picks={c.number: float(counts[row]) for row, c in enumerate(candidates) if counts[row] > 0},
        none=float(1 - some.mean()),
        keeps={c.number: {name: float(keeps[name][row]) for name in keeps} for row, c in enumerate(candidates)},
    )


def _shifts(candidates: Sequence[Candidate], noise: Noise, draws: int) -> Shifts:
    """Differences of logarithms between fresh and stored figures, of each metric by itself."""
    rng, counts = np.random.default_rng(0), np.array([noise.readings[c.number] for c in candidates], dtype=float)
    return {name: _shift(noise, name, counts, rng, draws) for name in sorted(noise.components)}


def _shift(noise: Noise, name: str, counts: Array, rng: np.random.Generator, draws: int) -> Array:
    (shared, own), (shared_dof, own_dof) = noise.components[name], noise.dof
    most = counts.max()
    common = np.sqrt(shared * (1 / noise.rounds + 1 / most)) * rng.standard_t(shared_dof, (draws, 1))
    # Readings of other times than the rounds have what is in common within a round each for itself.
    apart = own * (1 / noise.rounds + 1 / counts) + np.where(counts < most, shared / counts, 0.0)
    shift: Array = common + np.sqrt(apart) * rng.standard_t(own_dof, (draws, len(counts)))
    return shift
