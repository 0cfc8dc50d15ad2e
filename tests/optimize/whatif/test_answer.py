"""Another decision from the same measurements: how sure, where it flips, and what to measure next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from objectives import Direction
from optimize.config.whatif import WhatIf
from optimize.decision.constraints import Limit
from optimize.decision.terms import Terms
from optimize.ledger import Ledger
from optimize.study.confirmation import recommendation, terms_of
from optimize.whatif.answer import Answer, Flip, answer, changes
from optimize.whatif.figures import Figurer
from optimize.whatif.page import in_words
from optimize.whatif.pool import Pool, pool_of
from tests.optimize.study import test_parsimony as parsimony
from tests.optimize.study.confirmations import confirm, study_of

DIRECTIONS = {"qps": Direction.MAXIMIZE, "p99_latency_s": Direction.MINIMIZE}
EVEN = {"qps": 1.0, "p99_latency_s": 1.0}
WORDS = ["+study=chat"]


def _terms(limit_s: float | None = None, weights: Mapping[str, float] = EVEN, ratio: float | None = None) -> Terms:
    limits = [Limit("p99_latency_s", True, limit_s, False)] if limit_s is not None else []
    limits += [Limit("p99_latency_s", True, ratio, True)] if ratio is not None else []
    return Terms(DIRECTIONS, weights, limits)


@pytest.fixture
def study() -> optuna.Study:
    """Trials 2 and 3 and the baseline were measured again in three rounds; 3 was lucky before, and 1 was left out."""
    study = study_of()
    confirm(study, candidates=2)
    return study


def _pool(study: optuna.Study, terms: Terms, folder: Path) -> Pool:
    pool = pool_of(study, terms, Figurer(Ledger(folder), {}, WhatIf()), 3)
    assert pool is not None
    return pool


def _ask(study: optuna.Study, terms: Terms, folder: Path, sure: float = 0.95) -> Answer:
    return answer(_pool(study, terms, folder), terms, sure)


def _pick(result: Answer) -> int:
    assert result.recommendation is not None
    return result.recommendation.pick.number


def test_the_studys_own_question_has_its_own_answer(study: optuna.Study, tmp_path: Path) -> None:
    own, result = recommendation(study), _ask(study, terms_of(study), tmp_path)
    assert own is not None and result.recommendation is not None
    assert _pick(result) == own.pick.number == 2
    assert result.recommendation.pick.estimates == own.pick.estimates
    assert result.recommendation.score == own.score and result.recommendation.gains == own.gains
    assert changes(terms_of(study), result.terms) == []
    assert result.probability > 0.95 and list(result.proposals) == []
    assert "the study recommends it, too" in in_words(result, terms_of(study), own, WORDS)


def test_the_reduced_form_is_picked_where_the_study_picks_it(tmp_path: Path) -> None:
    study, rng = parsimony._searched()
    parsimony._reduce(study, rng)
    own, result = parsimony._confirmed(study, rng), _ask(study, terms_of(study), tmp_path)
    assert (
        own.pick.params == parsimony.REDUCED and max(own.scores, key=lambda n: own.scores[n].value) != own.pick.number
    )
    assert result.recommendation is not None and _pick(result) == own.pick.number
    assert result.recommendation.score == own.score and result.recommendation.gains == own.gains
    assert all(flip.steps and _at(flip) == own.pick.number for flip in result.flips)


def _at(flip: Flip) -> int | None:
    return next(step.pick for step in flip.steps if step.holds(flip.value))


def test_readings_of_the_search_are_carried_to_the_time_of_the_rounds(study: optuna.Study, tmp_path: Path) -> None:
    """Trial 3 was read 13 and is 11: the reading of trial 1 is taken for as much too lucky as theirs on average."""
    pool = _pool(study, _terms(weights={"qps": 1.0}), tmp_path)
    assert pool.confirmed == {0, 2, 3} and pool.rounds == 3
    assert pool.of(1).estimates["qps"].value == pytest.approx(14.0 * (11 / 13) ** (1 / 3), rel=0.01)
    assert pool.noise.readings == {0: 3, 1: 1, 2: 3, 3: 3, 4: 1}


def test_a_tighter_limit_takes_another_and_says_where_it_flips(study: optuna.Study, tmp_path: Path) -> None:
    weights = {"qps": 9.0, "p99_latency_s": 1.0}
    loose, tight = _ask(study, _terms(weights=weights), tmp_path), _ask(study, _terms(0.8, weights), tmp_path)
    assert _pick(loose) == 1 and _pick(tight) == 2
    (flip,) = [f for f in tight.flips if f.limit is not None]
    assert flip.setting == "constraints.p99_latency_s.max" and [s.pick for s in flip.steps] == [None, 2, 1]
    assert flip.steps[1].low == pytest.approx(0.7, rel=0.02)
    text = in_words(tight, _terms(weights=weights), loose.recommendation, WORDS)
    assert (
        "- constraints.p99_latency_s.max is 0.8, in the study not set" in text
        and "the study recommends trial 1" in text
    )
    assert "`constraints.p99_latency_s.max` (0.8): nothing up to 0.7" in text
    assert re.search(r"- P99 latency: .*, 0\.\d+× the default", text)


def test_what_only_the_search_has_read_is_to_be_measured(study: optuna.Study, tmp_path: Path) -> None:
    result = _ask(study, _terms(weights={"qps": 1.0}), tmp_path, sure=0.999999)
    assert _pick(result) == 1 and result.probability < 0.999999
    (proposal,) = [p for p in result.proposals if p.candidate.number == 1]
    assert not proposal.confirmed and proposal.repeats == 3
    text = in_words(result, terms_of(study), recommendation(study), WORDS)
    assert "a single measurement of the search, carried to the time of the rounds" in text
    assert "python -m optimize.measure +study=chat +at.x=1 repeats=3" in text
    assert "python -m" not in in_words(result, terms_of(study), recommendation(study), [])


def test_equal_candidates_are_told_apart_by_no_number_of_measurements(tmp_path: Path) -> None:
    study = study_of({0: (10.0, 1.0), 1: (12.0, 0.8), 2: (12.001, 0.8001)})
    result = _ask(study, _terms(), tmp_path)
    assert result.probability < 0.7
    assert sorted(p.candidate.number for p in result.proposals) == [1, 2]
    assert [p.repeats for p in result.proposals] == [3, None]  # the leader, and the one that equals it
    text = in_words(result, _terms(), None, WORDS)
    measured, _, equal = text.partition("As good as equal, since even 20 measurements of each would not decide")
    assert measured.count("python -m optimize.measure") == 1 and "python -m" not in equal and "- Trial " in equal
    assert "the study recommends nothing" in text
    assert "as nothing was confirmed" in text


def test_where_nothing_keeps_the_limits_it_says_which_would_be_kept(study: optuna.Study, tmp_path: Path) -> None:
    result = _ask(study, _terms(0.1), tmp_path)
    assert result.recommendation is None and result.probability == result.stability.none > 0.99
    text = in_words(result, _terms(), recommendation(study), WORDS)
    assert "**Nothing that was measured keeps every limit**" in text
    assert "constraints.p99_latency_s.max=0.7" in text and "would be kept by trial 2" in text
    assert result.to_dict()["pick"] is None


def test_weights_and_limits_that_differ_are_named() -> None:
    before, after = _terms(2.0), _terms(weights={"qps": 3.0, "p99_latency_s": 1.0}, ratio=1.1)
    assert changes(before, after) == [
        "constraints.p99_latency_s.max is not set, in the study 2",
        "constraints.p99_latency_s.max_ratio is 1.1, in the study not set",
        "qps weighs 75 % of the score, in the study 50 %",
        "p99_latency_s weighs 25 % of the score, in the study 50 %",
    ]
    assert changes(before, _terms(2.0, {"qps": 2.0, "p99_latency_s": 2.0})) == []


def test_the_answer_can_be_read_by_programs(study: optuna.Study, tmp_path: Path) -> None:
    raw: dict[str, Any] = _ask(study, _terms(1.0), tmp_path).to_dict()
    assert raw["pick"]["trial"] == 2 and raw["pick"]["confirmed"]
    (steps,) = [f["steps"] for f in raw["flips"] if f["setting"] == "constraints.p99_latency_s.max"]
    assert steps[0]["from"] == 0.0 and steps[-1]["to"] is None
