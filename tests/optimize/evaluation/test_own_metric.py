"""A workload that is no translation, scored by exact match and by a user's own function, up to its recommendation."""

from __future__ import annotations

import math
import random
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from objectives.quality import ExactMatch, UserMetric
from objectives.segments import Paired
from objectives.throughput import RequestRate
from optimize.config.schema import Scenario
from optimize.decision.constraints import Limit, violations
from optimize.engine.base import RequestConfig, TrialConfig
from optimize.evaluation.answers import Answers
from optimize.ledger import TrialRecord
from optimize.outcome import ROLE, Completed, Role
from optimize.report.terminal import in_words
from optimize.study.confirmation import recommendation
from optimize.study.info import StudyInfo, store_info
from optimize.study.rows import row_of
from optimize.study.trial_attributes import attributes_of
from optimize.study.trials import ratios_of
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedRequest
from tests.optimize.evaluation.scripted import CONFIG, WORKLOAD, Rig, trial

LIMIT = Limit("exact_match", False, 0.5, True)
WRONG_SHARE = {1: 0.3, 4: 0.1}
"""Beams -> share of wrong answers, each of which has the right first letter half of the time."""


def first_letter(answer: str, reference: str) -> float:
    """The user's function: half the credit for the first letter alone."""
    return (float(answer == reference) + float(answer[:1] == reference[:1])) / 2


METRICS = {
    "qps": RequestRate(), "exact_match": ExactMatch(), "mine": UserMetric(f"{__name__}.first_letter", unit="points"),
}  # fmt: skip


@pytest.fixture
def records(tmp_path: Path) -> dict[int, TrialRecord]:
    """Beams -> the record of their trial: the greedy baseline first, then four beams."""
    beams = 1

    def server(request: ScriptedRequest) -> ScriptedAnswer:
        draw = random.Random(request.row).random()  # the same for any beams: more beams err on fewer of the same rows
        wrong = "the wrong answer" if draw < 0.05 else "a wrong answer"
        return ScriptedAnswer(0.1, text=wrong if draw < WRONG_SHARE[beams] else WORKLOAD.references[request.row])

    rig = Rig(tmp_path, server, METRICS)
    rig.answers = Answers(rig.ledger)
    records, baseline = {}, None
    for number, beams in enumerate((1, 4)):
        role = Role.SEARCH if number else Role.BASELINE
        record = trial(number, role=role, baseline=not number)
        record.params["beam_size"] = beams
        record.config |= {"request": {"beam_size": beams, "fields": []}, "deploy_command": ""}
        evaluation = rig.evaluate(TrialConfig(CONFIG.engine, RequestConfig(beams)), record)
        assert isinstance(evaluation.outcome, Completed)
        baseline = baseline or evaluation.outcome.estimates
        broken = violations([LIMIT], evaluation.outcome.estimates, baseline, ratios_of(evaluation.paired))
        record.conclude(evaluation, broken)
        records[beams] = record
    return records


def test_a_share_lies_between_nothing_and_one_and_more_beams_answer_better(records: dict[int, TrialRecord]) -> None:
    greedy, beams = (records[n].estimates for n in (1, 4))
    share = beams["exact_match"]
    assert share.unit == "share" and 0 <= share.low <= share.value <= share.high <= 1
    assert share.value > greedy["exact_match"].value


def test_a_users_function_is_a_metric_with_its_own_unit(records: dict[int, TrialRecord]) -> None:
    estimates = records[4].estimates
    assert estimates["mine"].unit == "points" and estimates["mine"].value > estimates["exact_match"].value


def test_answers_are_compared_with_the_baselines_row_by_row(records: dict[int, TrialRecord]) -> None:
    comparison = Paired.from_dict(records[4].paired["exact_match"])
    assert comparison.difference.value > 0 and comparison.difference.n > 10 and comparison.p < 0.05
    assert Paired.from_dict(records[1].paired["exact_match"]).p == 1.0  # the baseline with itself
    assert records[4].violations["exact_match >= 0.5 x baseline"] < 0


def test_the_recommendation_gains_what_the_common_answers_show(records: dict[int, TrialRecord]) -> None:
    study = optuna.create_study(directions=["maximize", "maximize"])
    scenario = Scenario(weights={"qps": 0.01, "exact_match": 4.0})
    directions = {name: METRICS[name].direction for name in ("qps", "exact_match")}
    store_info(study, StudyInfo(scenario, directions, (LIMIT,), ("exact_match", "mine")))
    for record in records.values():
        study.add_trial(optuna.trial.create_trial(
            params=record.params, distributions={"beam_size": CategoricalDistribution([1, 4])},
            values=[record.estimates[name].value for name in directions],
            user_attrs={ROLE: str(record.role), **attributes_of(record)},
        ))  # fmt: skip
    recommended = recommendation(study)
    assert recommended is not None
    row = row_of(study, recommended).to_dict()
    assert row["params"]["beam_size"] == 4 and {"exact_match", "mine"} <= set(row["estimates"])
    gain, comparison = row["gains_over_vllm_defaults"]["exact_match"], records[4].paired["exact_match"]
    assert gain["value"] == pytest.approx(comparison["ratio"]["value"]) and math.isfinite(gain["high"])
    rows, p = comparison["difference"]["n"], comparison["p"]
    assert f"significant on {rows} prompts answered by both (p = {p:.2g})" in in_words(study, recommended)
