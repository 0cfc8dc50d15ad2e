"""Verdicts of the canary's judge on simulated pairs: wrong ones, and the minutes of comparison that right ones take.

Usage: python -m benchmarks.canary_simulated [--canaries 40]

No figure is a measurement of an engine. The logarithms of ratios follow an autoregressive process, as where one engine
is slower than the other for some seconds on end.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.common import RESULTS, processes, provenance
from optimize.canary.judge import Judge
from optimize.canary.pair import Pair
from optimize.config.canary import Canary
from optimize.serve.rollout import limits_of

_PER_S, _ANSWER_S, _SPREAD, _PAIRS, _LOOK = 4.0, 2.0, 0.4, 4000, 20
_CASES = [(1.0, 0.0), (1.0, 0.9), (1.1, 0.0), (1.1, 0.9), (1.3, 0.9), (1.5, 0.9), (2.0, 0.9)]


@dataclass(frozen=True)
class Outcome:
    """Verdict on one canary ("promoted", "rolled back" or "open"), and the minutes of comparison that it took."""

    verdict: str
    minutes: float


def pairs(ratio: float, correlation: float, seed: int) -> Iterator[Pair]:
    """Pairs whose ratios have a geometric mean, and a correlation from each to the next."""
    generator = np.random.default_rng(seed)
    drift = generator.normal(size=2)
    for number in range(_PAIRS):
        drift = correlation * drift + np.sqrt(1 - correlation**2) * generator.normal(size=2)
        latency, first = (float(ratio * np.exp(_SPREAD * value)) for value in drift)
        same = float(generator.random() < 0.9)
        yield Pair(number / _PER_S, _ANSWER_S, latency=latency, first_token=first, agreement=same)


def outcome(ratio: float, correlation: float, seed: int) -> Outcome:
    """The verdict of a judge who looks after every twenty pairs."""
    judge, stream = Judge(limits_of(Canary())), pairs(ratio, correlation, seed)
    while batch := [pair for _, pair in zip(range(_LOOK), stream, strict=False)]:
        verdict = judge.add(batch)
        if verdict is not None:
            return Outcome("promoted" if verdict.promote else "rolled back", judge.pairs / _PER_S / 60)
    return Outcome("open", judge.pairs / _PER_S / 60)


def row(ratio: float, correlation: float, outcomes: list[Outcome]) -> str:
    counts = Counter(o.verdict for o in outcomes)
    minutes = [o.minutes for o in outcomes if o.verdict != "open"]
    spread = f"{statistics.median(minutes):.1f}, {max(minutes):.1f}" if minutes else "-"
    verdicts = " | ".join(str(counts[verdict]) for verdict in ("promoted", "rolled back", "open"))
    return f"| {ratio:g} | {correlation:g} | {verdicts} | {spread} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--canaries", type=int, default=40)
    args = parser.parse_args()
    with processes() as pool:
        rows = [row(*case, list(pool.map(partial(outcome, *case), range(args.canaries)))) for case in _CASES]
    head = (
        "| times as long | correlation of neighbours | promoted | rolled back | open | minutes to the verdict, median "
        "and longest |\n|---|---|---|---|---|---|"
    )
    text = "\n\n".join(
        [
            "# Verdicts of the canary's judge on simulated pairs",
            provenance(f"python -m benchmarks.canary_simulated --canaries {args.canaries}"),
            f"Simulated, not measured on engines. {_PER_S:g} pairs a second of answers of {_ANSWER_S:g} s, whose "
            f"ratios have a standard deviation of {_SPREAD:g} in the logarithm; {args.canaries} canaries each, all "
            f"with the default borders (10 % slower), of at most {_PAIRS / _PER_S / 60:.0f} minutes. A candidate that "
            "takes 1.1 times as long stands at the border: either verdict on it is wrong.",
            "\n".join([head, *rows]),
        ]
    )  # fmt: skip
    print(text)
    (RESULTS / "canary_simulated.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
