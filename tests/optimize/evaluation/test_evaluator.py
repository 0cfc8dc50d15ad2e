"""One configuration to one evaluation, in virtual time: repeated, flagged, refused, or measured."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import pytest

from objectives import Estimate
from objectives.latency import LatencyQuantile
from objectives.quality import UserMetric
from optimize.decision.constraints import Limit
from optimize.engine.base import EngineConfig, Flags, RequestConfig, TrialConfig
from optimize.errors import EngineFailure, FailureKind, OptimizeError, TransientFault
from optimize.evaluation.answers import answers_key
from optimize.evaluation.estimates import relative_half_width
from optimize.evaluation.task import effort_in
from optimize.load.arrivals import Constant
from optimize.load.pace import Effort
from optimize.model.manifest import write_manifest
from optimize.outcome import Completed, Failed, Infeasible
from optimize.testing.scripted_engine import ScriptedTelemetry
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedRequest
from tests.optimize.evaluation.scripted import CONFIG, METRICS, Rig, trial
from tests.packed import CONFIGS, described


def test_a_measured_configuration_has_figures_and_the_seconds_of_every_phase(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Completed)
    assert evaluation.outcome.estimates["qps"].value == pytest.approx(40.0, rel=0.05)  # four users, ten a second each
    assert evaluation.outcome.estimates["p99_latency_s"].value == pytest.approx(0.1)
    assert list(evaluation.seconds) == ["engine_start", "first_answer", "warmup", "window", "drain", "scoring", "total"]
    assert evaluation.seconds["engine_start"] == pytest.approx(2.0)
    assert evaluation.seconds["window"] == pytest.approx(4.0, abs=0.2)
    parts = sum(seconds for phase, seconds in evaluation.seconds.items() if phase != "total")
    assert parts <= evaluation.seconds["total"] + 0.01
    assert evaluation.answers_key == answers_key(CONFIG) and evaluation.audit["sent"] >= 100
    assert (evaluation.disturbances, evaluation.repeats, evaluation.cut_short) == ([], [], "")


def test_an_evaluation_leaves_raw_data_and_the_engines_log_and_changes_no_record(tmp_path: Path) -> None:
    rig, record = Rig(tmp_path), trial(7)
    rig.telemetry = ScriptedTelemetry(rig.clock, {"cpu_cores": 1.5})
    before = dataclasses.asdict(record)
    rig.evaluate(record=record)
    assert dataclasses.asdict(record) == before
    assert len(rig.ledger.read_requests(7)) >= 100
    assert rig.ledger.read_series(7)["cpu_cores"][0] == (0.0, 1.5)
    assert rig.ledger.log(7).read_text() == "starting fp16\n"


def test_nothing_of_ours_runs_in_the_background_from_before_the_load(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.evaluate()
    assert rig.phases == [
        "starting the engine", "settling", "held", "first answers", "warm-up", "measuring", "scoring",
    ]  # fmt: skip


def test_a_live_engine_is_reused_and_compiles_anew_for_other_numbers_of_beams_only(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    first, second = rig.evaluate(), rig.evaluate(record=trial(1))
    assert (first.new_engine, second.new_engine, len(rig.engines.engines)) == (True, False, 1)
    assert "reusing the live engine" in rig.phases and rig.phases.count("first answers") == 1
    assert second.seconds["engine_start"] == pytest.approx(0.0, abs=1e-3)
    beams = TrialConfig(CONFIG.engine, RequestConfig(beam_size=4))
    assert not rig.evaluate(beams, trial(2)).new_engine and rig.phases.count("first answers") == 2
    other = TrialConfig(EngineConfig("model", "fp16", (("max_num_seqs", 9),)), RequestConfig())
    assert rig.evaluate(other, trial(3)).new_engine


# --- what cannot be measured ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "noted"), [((), "bfloat16"), ((("dtype", "float16"),), "")])
def test_the_data_type_is_noted_where_vllm_chose_it(flags: Flags, noted: str, tmp_path: Path) -> None:
    config = TrialConfig(EngineConfig("model", "published", flags), RequestConfig())
    assert Rig(tmp_path).evaluate(config).dtype == noted


@pytest.mark.parametrize(("flags", "noted"), [((), "awq int4, bfloat16"), ((("dtype", "float16"),), "awq int4")])
def test_the_format_of_a_model_that_was_published_quantized_is_noted(flags: Flags, noted: str, tmp_path: Path) -> None:
    model = described(tmp_path / "model", quantization_config=CONFIGS["awq"])
    config = TrialConfig(EngineConfig(str(model), "published", flags), RequestConfig())
    assert Rig(tmp_path).evaluate(config).dtype == noted


def test_the_format_of_a_checkpoint_made_here_is_named_by_its_recipe_alone(tmp_path: Path) -> None:
    model = described(tmp_path / "model", quantization_config=CONFIGS["compressed-tensors"])
    write_manifest(model, {})
    config = TrialConfig(EngineConfig(str(model), "int4", ()), RequestConfig())
    assert Rig(tmp_path).evaluate(config).dtype == "bfloat16"


def test_an_engine_that_does_not_start_is_infeasible_and_its_log_is_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.fail_starts(fp16=EngineFailure(FailureKind.DEVICE_OOM, "no room", ("CUDA out of memory",)))
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Infeasible) and evaluation.outcome.evidence == ("CUDA out of memory",)
    assert evaluation.outcome.kind is FailureKind.DEVICE_OOM
    assert evaluation.outcome.reason.startswith(
        "no room; in phase 'starting the engine'; the engine's log: CUDA out of memory; free memory"
    )
    assert set(evaluation.seconds) == {"total"} and evaluation.new_engine
    assert rig.ledger.log(0).is_file()


def test_a_start_that_fails_for_a_passing_reason_is_a_failure(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.fail_starts(fp16=TransientFault("port taken"))
    assert rig.evaluate().outcome == Failed("port taken; in phase 'starting the engine'")


def test_an_engine_that_dies_under_load_is_infeasible_and_not_lent_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.engines.next_dies_at = rig.clock.now() + 5.0
    evaluation = rig.evaluate()
    reason = "died; in phase 'measuring'; see the end of engine.log"
    assert evaluation.outcome == Infeasible(FailureKind.CRASH, reason)
    assert evaluation.seconds["engine_start"] == pytest.approx(2.0)
    assert not rig.pool.is_live(CONFIG.engine)


def _grumble(answer: str, reference: str) -> float:
    raise KeyError(answer)


def test_a_users_metric_that_fails_ends_the_study_with_its_name(tmp_path: Path) -> None:
    metrics = {**METRICS, "mine": UserMetric(f"{__name__}._grumble")}
    with pytest.raises(OptimizeError, match=r"^mine: .*_grumble fails on the answer"):
        Rig(tmp_path, metrics=metrics).evaluate()


# --- when the window closes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "low_s", "high_s"), [(0.5, 3.9, 4.5), (0.1, 10.0, 25.0), (1e-6, 29.9, 30.5)])
def test_a_window_closes_once_the_named_figures_are_precise(
    target: float, low_s: float, high_s: float, tmp_path: Path
) -> None:
    def noisy(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(random.Random(request.number).uniform(0.1, 0.5))

    metrics, load = {"p50_latency_s": LatencyQuantile(0.5)}, {"precision": {"p50_latency_s": target}}
    rig = Rig(tmp_path, noisy, metrics, Constant(10.0), load=load)
    assert low_s <= rig.evaluate().seconds["window"] <= high_s


@pytest.mark.parametrize(("baseline", "infeasible"), [(False, True), (True, False)])
def test_without_an_answer_for_longer_than_a_limit_allows_a_trial_is_given_up_and_the_baseline_is_not(
    baseline: bool, infeasible: bool, tmp_path: Path
) -> None:
    def slow_at_first(request: ScriptedRequest) -> ScriptedAnswer:
        return ScriptedAnswer(40.0 if request.number < 4 and request.max_tokens > 4 else 0.1)

    rig = Rig(tmp_path, slow_at_first, load={"request_timeout_s": 100.0})
    rig.limits = [Limit("p99_latency_s", True, 1.0, False)]
    outcome = rig.evaluate(record=trial(baseline=baseline)).outcome
    assert isinstance(outcome, Infeasible) is infeasible
    assert not isinstance(outcome, Infeasible) or outcome.kind is FailureKind.TOO_SLOW


def test_an_engine_that_generates_tokens_or_is_kept_from_the_processors_is_making_an_effort() -> None:
    series = {
        "generated_tokens": [(-1.0, 3.0), (0.0, 5.0), (2.0, 9.0)],
        "cpu_cores": [(-1.0, 2.0), (0.5, 0.2), (1.0, 0.4)],
    }
    effort = effort_in(series)
    assert effort.tokens == 4.0 and effort.cpu_s == pytest.approx(0.3)
    assert effort_in({}) == Effort()


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"), [(10, 9, 12, 0.15), (0, 0, 0, 0.0), (0, 0, 1, math.inf), (5, 5, 5, 0.0)]
)
def test_precision_is_relative(value: float, low: float, high: float, expected: float) -> None:
    assert relative_half_width(Estimate(value, low, high, 10, "s")) == pytest.approx(expected)
