"""Verdict on the repetitions of one scenario: certified or not, and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optimize.certify.results import FaultResult, over_repeats
from optimize.config.certify import Certify
from optimize.formatting import figure


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one scenario.

    Attributes:
        certified: Whether the configuration is certified; None where the system did not permit the test.
        why: The reason, in words.
    """

    certified: bool | None
    why: str

    def in_words(self) -> str:
        name = {True: "certified", False: "not certified", None: "not tested"}[self.certified]
        return f"{name}: {self.why}"


def judge(runs: Sequence[FaultResult], settings: Certify) -> Verdict:
    """The verdict on a fault: certified if P99 recovered in every repetition with at most one restart and no orphan."""
    if all(r.error for r in runs):
        return Verdict(None, runs[0].error)
    tested = [r for r in runs if not r.error]
    problems = [
        *_in(tested, lambda r: "recovery_s" not in r.figures, f"P99 not normal within {settings.recovery_max_s:g} s"),
        *_in(tested, lambda r: r.figures.get("orphans", 0) > 0, "processes were left behind"),
        *_in(tested, lambda r: r.figures.get("restarts", 0) > 1, "the engine died again"),
    ]
    if problems:
        return Verdict(False, "; ".join(problems))
    recovery, lost = over_repeats(tested, "recovery_s"), over_repeats(tested, "lost")
    assert recovery is not None and lost is not None
    return Verdict(True, f"P99 back to normal after {figure(recovery)}; lost requests: {lost.value:.3g} on average")


def judge_stress(runs: Sequence[FaultResult], settings: Certify) -> Verdict:
    """The verdict on the target rate: sustained or not, the rate at which P99 broke, and the recovery afterwards."""
    problems = [
        *_in(
            runs, lambda r: "breaking_per_s" in r.figures, f"{settings.stress_target_per_s:g} requests/s not sustained"
        ),
        *_in(runs, lambda r: "recovery_s" not in r.figures, "P99 not normal again after the peak"),
        *_in(runs, lambda r: r.figures.get("restarts", 0) > 0, "the engine had to be restarted"),
        *_in(runs, lambda r: bool(r.doubts), "the client failed its own audit"),
    ]
    parts = []
    for name, words in (("sustained_per_s", "sustains"), ("breaking_per_s", "breaks on the ramp at")):
        if (rate := over_repeats(runs, name)) is not None:
            parts.append(f"{words} {figure(rate)}")
    if (recovery := over_repeats(runs, "recovery_s")) is not None:
        parts.append(f"normal again {figure(recovery)} after the peak")
    return Verdict(not problems, "; ".join([*problems, *parts]))


def _in(runs: Sequence[FaultResult], holds: Callable[[FaultResult], bool], words: str) -> list[str]:
    count = sum(holds(r) for r in runs)
    return [words if count == len(runs) else f"{words} in {count} of {len(runs)} repetitions"] if count else []
