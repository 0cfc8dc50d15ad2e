"""References scored by a served model: over their own tokens only, kept by what they depend on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from objectives.quality import Bleu, Perplexity
from optimize.config.measuring import BASELINE, WORKLOAD
from optimize.engine.base import Endpoint, EngineConfig, RequestConfig, TrialConfig
from optimize.engine.simulated import SimulatedLauncher
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import TransientFault
from optimize.evaluation.answers import answers_key
from optimize.evaluation.perplexity import logprobs_of, score_references
from optimize.outcome import Completed
from optimize.plan import Plan
from optimize.workload.workload import Workload
from tests.optimize.evaluation.scripted import Rig

PROMPTS, REFERENCES = ["two birds\n", "the dog sees\n"], ["zwei", "der Hund sieht das Haus"]
TEXTS = dict(enumerate(REFERENCES))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    launched = SimulatedLauncher().launch(EngineConfig("m", "fp16"), tmp_path_factory.mktemp("engine") / "log")
    yield launched
    launched.stop()


def test_only_the_references_tokens_count(engine: VllmEngine) -> None:
    scores = score_references(engine.endpoint, PROMPTS, REFERENCES)
    assert {row: tokens for row, (_, tokens) in scores.items()} == {0: 1, 1: 5}  # the stand-in's tokens are words
    alone = score_references(engine.endpoint, ["a different prompt\n"], REFERENCES[:1])
    assert alone[0] == pytest.approx(scores[0])  # whose probabilities do not depend on what came before


def test_chat_messages_are_scored_in_the_servers_own_template(engine: VllmEngine) -> None:
    messages = [{"role": "user", "content": "two birds"}]
    assert score_references(engine.endpoint, [messages], REFERENCES[:1]) == score_references(
        engine.endpoint, PROMPTS[:1], REFERENCES[:1]
    )


def test_a_reference_without_tokens_is_left_out(engine: VllmEngine) -> None:
    assert list(score_references(engine.endpoint, PROMPTS, ["", "ein Wort"])) == [1]


def test_a_server_that_refuses_gives_nothing(engine: VllmEngine) -> None:
    wrong_key = Endpoint(engine.endpoint.base_url, "wrong", engine.endpoint.model)
    assert score_references(wrong_key, PROMPTS, REFERENCES) == {}


def _plan(tmp_path: Path, metrics: dict[str, Any], remote: bool = False, reference: str = WORKLOAD) -> Plan:
    launcher = SimpleNamespace(request_knobs_only=remote, version=lambda: "simulated 1")
    config = SimpleNamespace(cache_dir=str(tmp_path), engine={})
    workload = Workload("w", PROMPTS, REFERENCES, 8)
    return cast(
        Plan,
        SimpleNamespace(
            metrics=metrics, launcher=launcher, config=config, workload=workload, reference=reference, signature={}
        ),
    )


def _key(checkpoint: str = "m", **flags: object) -> str:
    return answers_key(TrialConfig(EngineConfig(checkpoint, "fp16", tuple(flags.items())), RequestConfig()))


def test_an_engine_scores_once_for_all_configurations_with_equal_answers(engine: VllmEngine, tmp_path: Path) -> None:
    plan = _plan(tmp_path, {"perplexity": Perplexity()})
    assert logprobs_of(_key(), plan, TEXTS) == {}  # nothing is kept yet, and there is no engine to ask
    scores = logprobs_of(_key(), plan, TEXTS, engine)
    assert len(scores) == 2
    assert logprobs_of(_key(max_num_seqs=7), plan, TEXTS) == scores
    for other in (_key("int8"), _key(kv_cache_dtype="fp8")):
        assert logprobs_of(other, plan, TEXTS) == {}


@pytest.mark.parametrize("engine_", [{"env": {"VLLM_MXFP4": "1"}}, {"flags": {"kv_cache_dtype": "fp8"}}])
def test_engines_of_another_study_share_scores_unless_their_settings_differ(
    engine: VllmEngine, engine_: dict[str, Any], tmp_path: Path
) -> None:
    plan = _plan(tmp_path, {"perplexity": Perplexity()})
    scores = logprobs_of(_key(), plan, TEXTS, engine)
    plan.config.engine = {"env": {"VLLM_CPU_KVCACHE_SPACE": 4}, "flags": {"max_num_seqs": 7}}
    assert logprobs_of(_key(), plan, TEXTS) == scores
    plan.config.engine = engine_
    assert logprobs_of(_key(), plan, TEXTS) == {}


def test_the_unquantized_models_answers_are_scored_and_kept_apart(engine: VllmEngine, tmp_path: Path) -> None:
    plan, metrics = _plan(tmp_path, {"p": Perplexity()}, reference=BASELINE), {"p": Perplexity()}
    scores = logprobs_of(_key(), plan, {1: "ein Wort"}, engine)  # row 0 had no answer
    assert {row: tokens for row, (_, tokens) in scores.items()} == {1: 2}
    assert logprobs_of(_key(), plan, {1: "ein Wort"}) == scores
    assert logprobs_of(_key(), plan, {1: "anders"}) == {} == logprobs_of(_key(), _plan(tmp_path, metrics), TEXTS)


def test_no_engine_scores_where_no_metric_needs_it(tmp_path: Path) -> None:
    nobody = cast(VllmEngine, None)
    assert logprobs_of(_key(), _plan(tmp_path, {"bleu": Bleu()}), TEXTS, nobody) == {}
    assert not (tmp_path / "perplexity").exists()


def test_scores_of_a_remote_endpoint_are_not_cached(engine: VllmEngine, tmp_path: Path) -> None:
    assert logprobs_of(_key(), _plan(tmp_path, {"p": Perplexity()}, remote=True), TEXTS, engine)
    assert not (tmp_path / "perplexity").exists()


def test_an_engine_that_cannot_be_reached_is_a_passing_fault(tmp_path: Path) -> None:
    gone = SimpleNamespace(endpoint=Endpoint("http://127.0.0.1:9", None, "model"), check=lambda: None)
    with pytest.raises(TransientFault, match="did not score the references"):
        logprobs_of(_key(), _plan(tmp_path, {"p": Perplexity()}), TEXTS, cast(VllmEngine, gone))


def test_perplexity_is_a_metric_like_any_other(tmp_path: Path) -> None:
    rig = Rig(tmp_path, metrics={"perplexity": Perplexity(rows=20)})
    rig.launcher = SimulatedLauncher()
    with rig.pool:
        outcome = rig.evaluate(TrialConfig(EngineConfig(str(tmp_path), "fp16"), RequestConfig())).outcome
    assert isinstance(outcome, Completed)
    (kept,) = (tmp_path / "cache/perplexity").iterdir()
    scores = json.loads((kept / "logprobs.json").read_text())
    assert len(scores) == 20
    total, tokens = (sum(score[i] for score in scores.values()) for i in (0, 1))
    assert outcome.estimates["perplexity"].value == pytest.approx(math.exp(-total / tokens))
