"""Tasks that a served model is asked after the load: once for all configurations that answer alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from objectives.accuracy import Accuracy
from objectives.segments import Paired
from optimize.engine.base import Endpoint, EngineConfig, RequestConfig, TrialConfig
from optimize.engine.simulated import SimulatedLauncher
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import TransientFault
from optimize.evaluation.answers import Answers, answers_key
from optimize.evaluation.task_scores import longest_sequence, task_scores_of
from optimize.outcome import Completed
from optimize.plan import Plan
from tests.optimize.evaluation.scripted import Rig, trial
from tests.optimize.harness.stand_in import install

ACCURACY = Accuracy(limit=30)


@pytest.fixture(autouse=True)
def _stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "packages", monkeypatch)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    launched = SimulatedLauncher().launch(EngineConfig("m", "fp16"), tmp_path_factory.mktemp("engine") / "log")
    yield launched
    launched.stop()


def _plan(tmp_path: Path, remote: bool = False, tasks: str = "everyday 1.0 (30 documents, 0123)") -> Plan:
    launcher = SimpleNamespace(request_knobs_only=remote, version=lambda: "simulated 1")
    config = SimpleNamespace(cache_dir=str(tmp_path), model=SimpleNamespace(path="m"), engine={})
    plan = SimpleNamespace(metrics={"a": ACCURACY}, launcher=launcher, config=config, signature={"tasks": tasks})
    return cast(Plan, plan)


def _key(checkpoint: str = "m", beam_size: int = 1, **flags: object) -> str:
    config = EngineConfig(checkpoint, "fp16", tuple(flags.items()))
    return answers_key(TrialConfig(config, RequestConfig(beam_size)))


def test_an_engine_is_asked_once_for_all_configurations_with_equal_answers(engine: VllmEngine, tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    assert task_scores_of(_key(), plan) == {}  # nothing is kept yet, and there is no engine to ask
    scores = task_scores_of(_key(), plan, engine)
    assert len(scores[ACCURACY.key]["everyday"]) == 30
    for alike in (_key(max_num_seqs=7), _key(beam_size=4)):
        assert task_scores_of(alike, plan) == scores
    for other in (_key("int8"), _key(kv_cache_dtype="fp8"), _key(dtype="float16")):
        assert task_scores_of(other, plan) == {}
    for engine_ in ({"env": {"VLLM_MXFP4": "1"}}, {"flags": {"kv_cache_dtype": "fp8"}}):  # of all engines of a study
        plan.config.engine = engine_
        assert task_scores_of(_key(), plan) == {}


def test_tasks_whose_documents_change_are_asked_again(engine: VllmEngine, tmp_path: Path) -> None:
    task_scores_of(_key(), _plan(tmp_path), engine)
    assert task_scores_of(_key(), _plan(tmp_path, tasks="everyday 1.1 (30 documents, 4567)")) == {}


def test_scores_of_a_remote_endpoint_are_not_cached(engine: VllmEngine, tmp_path: Path) -> None:
    assert task_scores_of(_key(), _plan(tmp_path, remote=True), engine)
    assert not (tmp_path / "accuracy").exists()


def test_an_engine_that_cannot_be_reached_is_a_passing_fault(tmp_path: Path) -> None:
    gone = SimpleNamespace(endpoint=Endpoint("http://127.0.0.1:9", None, "model"), check=lambda: None)
    with pytest.raises(TransientFault, match="did not answer the tasks everyday"):
        task_scores_of(_key(), _plan(tmp_path), cast(VllmEngine, gone))


def test_the_longest_sequence_is_the_endpoints_own(engine: VllmEngine) -> None:
    assert longest_sequence(engine.endpoint) == 128


def test_accuracy_is_a_metric_like_any_other_and_is_paired_with_the_baselines(tmp_path: Path) -> None:
    rig = Rig(tmp_path, metrics={"accuracy": ACCURACY})
    rig.launcher, rig.answers = SimulatedLauncher(), Answers(rig.ledger)

    def evaluate(recipe: str, **fields: Any) -> tuple[Completed, Paired]:
        checkpoint = tmp_path / recipe
        checkpoint.mkdir()
        (checkpoint / "config.json").write_text(json.dumps({"of": recipe}))
        evaluation = rig.evaluate(TrialConfig(EngineConfig(str(checkpoint), recipe), RequestConfig()), trial(**fields))
        assert isinstance(evaluation.outcome, Completed) and evaluation.seconds["scoring"] >= 0
        return evaluation.outcome, Paired.from_dict(evaluation.paired["accuracy"])

    with rig.pool:
        outcome, paired = evaluate("fp16", number=0, baseline=True)
        other, pair = evaluate("int4", number=1)
    assert outcome.estimates["accuracy"].n == 30 and paired.difference.value == 0
    gap = other.estimates["accuracy"].value - outcome.estimates["accuracy"].value
    assert pair.difference.value == pytest.approx(gap) and pair.difference.n == 30
    assert len(list((tmp_path / "cache/accuracy").iterdir())) == 2
