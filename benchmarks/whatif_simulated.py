"""Do studies that are measured afresh decide as often like a what-if as it says? On made-up measurements.

Usage: python -m benchmarks.whatif_simulated [--studies 400]

No engine: figures of twelve configurations are drawn with the noise of a machine, read once by a search while the
machine drifts, and the best three measured again in three rounds (`optimize.study.confirmation`). A what-if asks under
another limit and other weights. Then all configurations are measured in three new rounds, and decided by their means.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import optuna
from optuna.distributions import IntDistribution

from benchmarks.common import RESULTS, processes, simulated_by
from objectives import Direction, Estimate
from objectives.intervals import proportion_interval
from optimize.config.schema import Confirm, Scenario
from optimize.config.whatif import WhatIf
from optimize.decision.candidate import Candidate
from optimize.decision.constraints import Limit
from optimize.decision.recommendation import recommend
from optimize.decision.terms import Terms
from optimize.ledger import Ledger
from optimize.outcome import ROLE, Role
from optimize.study.confirmation import Confirmation
from optimize.study.info import StudyInfo, store_info
from optimize.study.trial_attributes import CONFIRMS, ROUND
from optimize.whatif.answer import answer
from optimize.whatif.figures import Figurer
from optimize.whatif.pool import pool_of

CONFIGURATIONS, CONFIRMED, ROUNDS = 12, 3, 3
DIRECTIONS = {"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE, "memory_bytes": Direction.MINIMIZE}
OWN = {"qps": 0.05, "p99_latency_s": 0.1, "memory_bytes": 0.003}
SHARED = {"qps": 0.08, "p99_latency_s": 0.12, "memory_bytes": 0.0}
"""Standard deviations of a figure's logarithm: of one measurement, and of a round (docs/results/same.md)."""
BINS = ((0.0, 0.5), (0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 1.01))
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """One what-if: the probability that it gave its decision, whether a fresh study decided the same, and whether the
    fresh figures of its pick fell within its intervals.
    """

    probability: float
    same: bool
    within: Sequence[bool]
    confirmed: bool


class Machine:
    """Draws measurements of configurations, whose true figures it knows."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._rounds = rng, {}  # type: ignore[var-annotated]
        self.truth = [{name: rng.lognormvariate(0, 0.25) for name in DIRECTIONS} for _ in range(CONFIGURATIONS)]

    def measured(self, number: int, time: object) -> Figures:
        """The figures of one measurement; those of one time share what the machine is like then."""
        if time not in self._rounds:
            self._rounds[time] = {name: self._rng.gauss(0, s) for name, s in SHARED.items()}
        shift = self._rounds[time]
        return {
            name: value * math.exp(shift[name] + self._rng.gauss(0, OWN[name]))
            for name, value in self.truth[number].items()
        }


def _estimates(figures: Figures) -> dict[str, Estimate]:
    return {
        name: Estimate(v, v * math.exp(-OWN[name]), v * math.exp(OWN[name]), 100, "") for name, v in figures.items()
    }


def _run_next(study: optuna.Study, figures_of: Callable[[optuna.Trial], Figures]) -> None:
    trial = study.ask({"x": IntDistribution(0, CONFIGURATIONS)})
    figures = figures_of(trial)
    raw = {name: e.to_dict() for name, e in _estimates(figures).items()}
    for name, value in {"imputed": False, "estimates": raw, "answers_key": "", "feasible": True}.items():
        trial.set_user_attr(name, value)
    study.tell(trial, [figures[name] for name in DIRECTIONS])


def _study(machine: Machine, weights: Mapping[str, float]) -> optuna.Study:
    """Searched and confirmed, its search spread over three times of the machine."""
    study = optuna.create_study(directions=[d.value for d in DIRECTIONS.values()])
    store_info(study, StudyInfo(Scenario(weights=dict(weights)), DIRECTIONS))
    for number in range(CONFIGURATIONS):
        study.enqueue_trial({"x": number}, user_attrs={ROLE: Role.SEARCH if number else Role.BASELINE})
        _run_next(study, lambda _, number=number: machine.measured(number, f"search {number // 4}"))  # type: ignore[misc]

    def drain(has_next: Callable[[int], bool]) -> None:
        while has_next(0):
            _run_next(study, lambda t: machine.measured(t.user_attrs[CONFIRMS], t.user_attrs[ROUND]))

    Confirmation(study, Confirm(CONFIRMED, ROUNDS), 0, drain).run()
    return study


def _weights(rng: random.Random) -> dict[str, float]:
    return {name: rng.choice([0.5, 1.0, 2.0, 4.0]) for name in DIRECTIONS}


def _afresh(machine: Machine, terms: Terms) -> tuple[int | None, list[Figures]]:
    """The decision by new rounds of all configurations, and the figures of one further measurement of each."""
    rounds = [[machine.measured(n, f"fresh {r}") for n in range(CONFIGURATIONS)] for r in range(ROUNDS)]
    means = [{name: math.exp(fmean(math.log(r[n][name]) for r in rounds)) for name in DIRECTIONS}
             for n in range(CONFIGURATIONS)]  # fmt: skip
    candidates = [
        Candidate(
            n, {}, _estimates(figures), all(x.violation(figures[x.metric], None) <= 0 for x in terms.limits), n == 0
        )
        for n, figures in enumerate(means)
    ]
    best = recommend(candidates, terms.directions, terms.weights)
    return None if best is None else best.pick.number, rounds[0]


def outcome(seed: int) -> Outcome:
    """One study, one question, one study measured afresh."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = random.Random(seed)
    machine = Machine(rng)
    study = _study(machine, _weights(rng))
    latencies = sorted(figures["p99_latency_s"] for figures in machine.truth)
    limit = Limit("p99_latency_s", True, rng.uniform(latencies[2], latencies[-3]), False)
    terms = Terms(DIRECTIONS, _weights(rng), [limit])
    with TemporaryDirectory() as folder:
        pool = pool_of(study, terms, Figurer(Ledger(Path(folder)), {}, WhatIf()), ROUNDS)
    assert pool is not None
    result, (pick, fresh) = answer(pool, terms, 0.95), _afresh(machine, terms)
    best = result.recommendation
    if best is None:
        return Outcome(result.probability, pick is None, [], False)
    number, figures = best.pick.number, best.pick.estimates
    within = [figures[name].low <= fresh[number][name] <= figures[name].high for name in DIRECTIONS]
    return Outcome(result.probability, pick == number, within, number in pool.confirmed)


def _share(hits: Sequence[bool]) -> str:
    share, low, high = proportion_interval(sum(hits), len(hits))
    return f"{100 * share:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def report(outcomes: Sequence[Outcome]) -> str:
    """The table, as Markdown."""
    head = [
        "# Does a what-if know how sure it is?", "",
        simulated_by(f"python -m benchmarks.whatif_simulated --studies {len(outcomes)}"), "",
        f"{len(outcomes)} made-up studies of {CONFIGURATIONS} configurations, {CONFIRMED} of them and the defaults "
        f"confirmed in {ROUNDS} rounds;", "each is asked under another limit on latency and other weights. No engine "
        "answered: figures are drawn with the noise of a machine that drifts.", "",
        "| probability that the what-if gave | what-ifs | its mean | fresh studies that decided the same |",
        "|---|---|---|---|",
    ]  # fmt: skip
    parts = {f"{100 * low:.0f}–{100 * min(high, 1):.0f} %": _between(outcomes, low, high) for low, high in BINS}
    rows = [_line(name, part) for name, part in {**parts, "all": outcomes}.items() if part]
    within = _share([hit for o in outcomes if o.confirmed for hit in o.within])
    last = (
        f"A further measurement of a confirmed pick fell within the interval that the what-if gave in {within} of the "
        "cases; 95 % is what the interval says."
    )
    return "\n".join([*head, *rows, "", last]) + "\n"


def _between(outcomes: Sequence[Outcome], low: float, high: float) -> list[Outcome]:
    return [o for o in outcomes if low <= o.probability < high]


def _line(name: str, outcomes: Sequence[Outcome]) -> str:
    mean = fmean(o.probability for o in outcomes)
    return f"| {name} | {len(outcomes)} | {100 * mean:.0f} % | {_share([o.same for o in outcomes])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    arguments = parser.parse_args()
    with processes() as pool:
        outcomes = list(pool.map(outcome, range(arguments.studies), chunksize=10))
    text = report(outcomes)
    (RESULTS / "whatif_simulated.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
