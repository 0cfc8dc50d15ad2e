"""What the page ranks its candidates by."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from optimize.report.data import Facts
from optimize.report.page import draw, html
from optimize.report.sliders import ranking, sliders
from optimize.testing.made_up_study import made_up


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return made_up(tmp_path_factory.mktemp("made-up"), 12)


def test_gains_make_up_the_scores_of_the_recommendation(facts: Facts) -> None:
    ranks = ranking(facts)
    assert ranks is not None and facts.recommendation is not None
    weights = [weight["value"] for weight in ranks["weights"]]
    assert weights == [facts.weights[name] for name in facts.directions]
    for row in ranks["rows"]:
        total = sum(w * math.log(g) for w, g in zip(weights, row["gains"], strict=True))
        assert math.exp(total / sum(weights)) == pytest.approx(facts.recommendation.scores[row["n"]].value)


def test_every_limit_has_a_slider_that_reaches_beyond_all_figures(facts: Facts) -> None:
    ranks = ranking(facts)
    assert ranks is not None
    latency, bleu, *off = ranks["limits"]
    assert (latency["key"], latency["value"]) == ("constraints.p99_latency_s.max", 2.0)
    assert (bleu["key"], bleu["value"], bleu["unit"]) == ("constraints.bleu.min_ratio", 0.95, "× the default")
    assert (bleu["label"], bleu["metric"]) == ("BLEU at least", "BLEU")
    assert [(limit["key"], limit["value"], limit["at"]) for limit in off] == [
        ("constraints.qps.min", None, 0), ("constraints.memory_bytes.max", None, 200),
    ]  # fmt: skip
    for place, limit in enumerate(ranks["limits"]):
        held = [row["held"][place][0] for row in ranks["rows"]]
        assert limit["low"] < min(held) and max(held) < limit["high"]
    share = latency["at"] / 200
    assert latency["low"] * (latency["high"] / latency["low"]) ** share == pytest.approx(2.0, rel=0.02)
    baseline = next(row for row in ranks["rows"] if row["base"])
    assert baseline["held"][1] == [1.0, 1.0, 1.0] and baseline["gains"] == [1.0] * 4


def test_a_page_without_a_choice_has_no_sliders(facts: Facts) -> None:
    single = replace(facts, candidates=[c for c in facts.candidates if c.baseline], recommendation=None)
    assert ranking(single) is None and sliders(None) == {}
    assert "ranking-pick" not in html(single, draw(single), "").partition("<script")[0]


def test_nothing_feasible_still_leaves_limits_to_move(facts: Facts) -> None:
    ranks = ranking(replace(facts, recommendation=None))
    assert ranks is not None and len(ranks["rows"]) == len(facts.candidates)
    page = html(facts, draw(facts), "")
    assert page.count('type="range"') == len(ranks["weights"]) + len(ranks["limits"])
