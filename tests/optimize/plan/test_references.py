"""What answers are scored against, and when nothing can score them."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.checkpoint import own_answers
from optimize.config.measuring import BASELINE, WORKLOAD
from optimize.config.schema import RandomWeights
from optimize.plan import make_plan
from tests.optimize.harness.stand_in import install
from tests.optimize.plan.chat_study import FIXED, USER_METRIC, bare, here, refusal

PEOPLES_FILES = {
    "sharegpt.json": '[{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hallo"}]}]',
    "chat.jsonl": '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hallo"}]}',
    "num.csv": "question,answer\nTwo plus three?,5\n",
    "bare.jsonl": '{"prompt": "Say 0"}\n{"prompt": "Say 1"}\n',
}


@pytest.mark.parametrize("name", PEOPLES_FILES)
def test_a_file_is_planned_in_one_step_without_a_column_named(name: str, tmp_path: Path) -> None:
    """Whatever it has: answers are scored against its own, or else against those of the model itself."""
    (tmp_path / name).write_text(PEOPLES_FILES[name], encoding="utf-8")
    plan = make_plan(here(tmp_path, f"workload.path={tmp_path}/{name}"))
    assert plan.reference == (BASELINE if name == "bare.jsonl" else WORKLOAD)
    (note, *_) = plan.workload.notes
    assert name in note and "\n" not in note


def test_references_are_needed_where_they_are_asked_for_by_a_metric_that_scores(tmp_path: Path) -> None:
    (tmp_path / "bare.jsonl").write_text(PEOPLES_FILES["bare.jsonl"], encoding="utf-8")
    config = here(tmp_path, f"workload.path={tmp_path}/bare.jsonl", "quality.reference=workload")
    assert "name the column of the references, workload.reference_column=..." in refusal(config)
    config.objectives, config.constraints = {n: o for n, o in config.objectives.items() if n != "bleu"}, {}
    assert not make_plan(config).workload.references


def test_accuracy_needs_no_references_and_its_tasks_are_part_of_the_conditions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "packages", monkeypatch)
    accuracy = "objectives.accuracy={_target_: objectives.accuracy.Accuracy, tasks: [%s]}"
    config = here(tmp_path, accuracy % "everyday", f"workload.output_tokens={{{FIXED}, tokens: 5}}")
    del config.objectives["bleu"], config.constraints["bleu"]
    plan = make_plan(config)
    assert plan.signature["tasks"].startswith("everyday 1.0 (300 documents, ")
    assert plan.fingerprint()["tasks"] == plan.signature["tasks"]
    message = "accuracy: the harness has no task 'everydays'; did you mean 'everyday'?"
    assert message in refusal(here(tmp_path, accuracy % "everydays"))


UNSCORED = [
    ("quality.reference=workload", "objectives.bleu: answers cannot be"),
    (f"objectives.mine={{{USER_METRIC}, function: math.floor}}", "cannot score the workload's first prompt"),
]


@pytest.mark.parametrize(("override", "message"), UNSCORED)
def test_answers_of_set_lengths_are_scored_against_the_models_own_alone(
    tmp_path: Path, override: str, message: str
) -> None:
    assert message in refusal(here(tmp_path, f"workload.output_tokens={{{FIXED}, tokens: 5}}", override))


def test_prompts_alone_are_scored_against_the_models_own_answers(tmp_path: Path) -> None:
    plan = make_plan(bare(tmp_path))
    assert (plan.reference, plan.workload.max_tokens) == (BASELINE, 128)
    assert plan.signature["quality"] == "against the unquantized model's own answers" == plan.fingerprint()["quality"]


def test_perplexity_is_that_of_the_models_own_answers_where_there_are_no_others(tmp_path: Path) -> None:
    config = bare(tmp_path, "constraints={}", "objectives.perplexity={_target_: objectives.quality.Perplexity}")
    del config.objectives["bleu"]
    assert make_plan(config).reference == BASELINE


def test_references_of_the_workload_count_where_it_has_them_and_nobody_says_otherwise(tmp_path: Path) -> None:
    own = make_plan(here(tmp_path))
    assert own.reference == WORKLOAD and "quality" not in own.signature
    assert make_plan(here(tmp_path, "quality.reference=baseline")).reference == BASELINE


def test_the_model_is_not_asked_where_neither_an_objective_nor_a_constraint_scores_answers(tmp_path: Path) -> None:
    config = bare(tmp_path, "constraints={}")
    del config.objectives["bleu"]
    assert make_plan(config).reference == WORKLOAD


def test_a_checkpoint_that_is_published_quantized_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}', encoding="utf-8")
    assert own_answers(str(tmp_path)) == "the published checkpoint's own answers"


def test_a_model_whose_answers_mean_nothing_is_not_scored(tmp_path: Path) -> None:
    config = here(tmp_path, "constraints={}")
    config.model.random = RandomWeights()
    assert "objectives.bleu: model demo has random weights" in refusal(config)
    del config.objectives["bleu"]
    config.constraints = {"chrf": {"min": 1}}
    assert "constraints.chrf: model demo has random weights" in refusal(config)
