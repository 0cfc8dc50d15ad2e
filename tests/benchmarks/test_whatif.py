"""The benchmarks of a what-if: which questions they ask, and when it holds."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.whatif_live import LIMIT, WEIGHT, Case, Finding, case_of, middle, report
from benchmarks.whatif_simulated import outcome
from objectives import Estimate
from optimize.decision.candidate import Candidate


def _asked(*steps: tuple[float, float | None, int | None], setting: str = LIMIT) -> dict[str, Any]:
    shown = [{"from": low, "to": high, "trial": trial} for low, high, trial in steps]
    estimate = Estimate(1.0, 0.9, 1.1, 3, "s").to_dict()
    return {
        "pick": {"trial": 4, "params": {"x": 1}}, "probability": 0.9, "estimates": {"p99_latency_s": estimate},
        "flips": [{"setting": setting, "value": 2.0, "steps": shown}],
    }  # fmt: skip


def test_a_question_is_asked_where_the_pick_is_another_one() -> None:
    assert case_of(_asked((0.0, 0.5, None), (0.5, 0.72, 3), (0.72, None, 4)), LIMIT) == Case(LIMIT, middle(0.5, 0.72))
    weight = f"{WEIGHT}qps"
    assert case_of(_asked((0.0, 3.0, 4), (3.0, None, 7), setting=weight), WEIGHT) == Case(weight, 4.5)
    assert case_of(_asked((0.0, 2.0, 5), (2.0, None, 4)), LIMIT).word == f"{LIMIT}=1.6"
    assert case_of(_asked((0.0, None, 4)), LIMIT) == Case(LIMIT, 1.6)  # nothing flips


def _finding(low: float, high: float, tied: bool = True, pick: bool = True) -> Finding:
    figures = {"p99_latency_s": Estimate((low + high) / 2, low, high, 3, "s")}
    fresh = Candidate(9, {"x": 1}, figures, True)
    return Finding(Case(LIMIT, 1.5), _asked(), fresh if pick else None, fresh if pick else None, tied, 60.0, 3.0)


@pytest.mark.parametrize(
    ("finding", "holds"),
    [
        (_finding(1.05, 1.3), True), (_finding(1.2, 1.3), False), (_finding(1.0, 1.2, tied=False), False),
        (_finding(1.0, 1.2, pick=False), False),
    ],
)  # fmt: skip
def test_a_what_if_holds_where_pick_and_figures_agree(finding: Finding, holds: bool) -> None:
    assert finding.holds == holds
    text = report([finding], 60.0, "command")
    assert ("holds" if holds else "does not hold") in text and "## `constraints.p99_latency_s.max=1.5`" in text


def test_made_up_studies_are_asked_and_measured_afresh() -> None:
    outcomes = [outcome(seed) for seed in range(8)]
    assert all(0.0 <= o.probability <= 1.0 for o in outcomes)
    assert sum(o.same for o in outcomes) >= 3 and any(o.confirmed for o in outcomes)
