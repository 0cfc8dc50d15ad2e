"""Facts of a report: constraints as text, and the class of each trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.decision.constraints import Limit
from optimize.report.data import limit_text
from optimize.testing.made_up_study import made_up


@pytest.mark.parametrize(
    ("limit", "unit", "text"),
    [
        (Limit("p99_latency_s", True, 0.5, False), "s", "P99 latency ≤ 500 ms"),
        (Limit("bleu", False, 0.95, True), "BLEU", "BLEU ≥ 0.95× the default"),
        (Limit("qps", False, 40, False), "1/s", "QPS ≥ 40 requests/s"),
        (Limit("error_rate", True, 0.01, False), "", "Error rate ≤ 0.01"),
    ],
)
def test_constraints_read_in_the_units_of_their_figures(limit: Limit, unit: str, text: str) -> None:
    assert limit_text(limit, unit) == text


def test_every_trial_belongs_to_the_first_class_that_applies(tmp_path: Path) -> None:
    facts = made_up(tmp_path, 40)
    assert facts.recommendation is not None and facts.search is not None
    kinds = {c.number: facts.kind(c) for c in facts.candidates}
    assert kinds[facts.recommendation.pick.number] == "pick" and kinds[0] == "base"
    front = {c.number for c in facts.search.front}
    for c in facts.candidates:
        assert (kinds[c.number] == "broken") == (not c.feasible and not c.baseline)
        assert kinds[c.number] != "front" or c.number in front
