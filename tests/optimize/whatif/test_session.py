"""The command: from what a study has stored, without an engine, in a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimize.config.compose import composed
from optimize.config.secrets import as_yaml
from tests.conftest import Run
from tests.made import QUICK, copy_studies
from tests.optimize.config.test_bad_input import refusal

CAPACITY = "+metrics.capacity_per_s={_target_: objectives.capacity.CapacityRate}"


@pytest.fixture
def words(made_studies: Path, tmp_path: Path) -> list[str]:
    """The words of a stored study's command, with a copy of its files."""
    out = copy_studies(made_studies, tmp_path / "out", "cache", "figures")
    return ["+study=chat", *QUICK, f"output_dir={out}"]


def test_the_command_answers_from_what_is_stored(optimize: Run, words: list[str], tmp_path: Path) -> None:
    done = optimize([*words, "+constraints.p99_latency_s={max: 1e-4}"], verb="optimize.whatif")
    assert done.returncode == 0, done.stderr
    assert "- constraints.p99_latency_s.max is 0.0001, in the study " in done.stdout
    assert "**Nothing that was measured keeps every limit**" in done.stdout
    report = tmp_path / "out/studies/chat/report"
    assert (report / "whatif.md").read_text(encoding="utf-8") in done.stdout
    assert json.loads((report / "whatif.json").read_text(encoding="utf-8"))["pick"] is None


@pytest.mark.parametrize(
    ("words_", "message"),
    [
        ([CAPACITY, "+constraints.capacity_per_s={min: 1}"], "study 'chat' has no such figure"),
        (
            ["objectives=[qps,p99_latency_s,exact_match]", "+scenario.weights.exact_match=1"],
            "has no measurement of vLLM's defaults",
        ),
        (["constraints=cost"], "hourly_usd"),
    ],
)
def test_a_question_without_an_answer_is_refused(
    optimize: Run, words: list[str], words_: list[str], message: str
) -> None:
    others = [word for word in words if not (word == "constraints=none" and "constraints=cost" in words_)]
    assert message in refusal(optimize([*others, *words_], verb="optimize.whatif"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("search_space.batch_size.high=64", "study 'chat' has measured rests on search_space.batch_size.high=256; "),
        ("sampler=tpe", "sampler=tpe can change nothing here: what study 'chat' has measured rests on sampler=Random"),
        ("study.trials=40", "rests on study.trials=2; leave it out, or run a study with it (python -m optimize)"),
    ],
)
def test_what_was_not_measured_is_no_part_of_a_question(
    optimize: Run, words: list[str], tmp_path: Path, word: str, message: str
) -> None:
    (tmp_path / "out/studies/chat/config.yaml").write_text(as_yaml(composed(words), words), encoding="utf-8")
    others = [other for other in words if other.partition("=")[0] != word.partition("=")[0]]
    assert message in refusal(optimize([*others, word], verb="optimize.whatif"))
    assert optimize(words, verb="optimize.whatif").returncode == 0
