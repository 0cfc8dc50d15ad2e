"""The harness in a child process: what it says of tasks, what it scores, and how it is refused or ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NoReturn

import pytest

from objectives.accuracy import Accuracy
from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.simulated import SimulatedLauncher
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import ConfigError, EngineFailure, FailureKind
from optimize.harness import process
from optimize.harness.process import HarnessError, check_harness, describe, evaluate, located, served_by
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    launched = SimulatedLauncher().launch(EngineConfig("m", "fp16"), tmp_path_factory.mktemp("engine") / "log")
    yield launched
    launched.stop()


@pytest.mark.usefixtures("stand_in")
def test_tasks_are_described_by_version_documents_and_content(tmp_path: Path) -> None:
    whole = describe(Accuracy(), "accuracy")
    assert whole.startswith("everyday 1.0 (300 documents, ") and whole.endswith("; lm_eval 0.1")
    part = describe(Accuracy(limit=20), "accuracy")
    assert part.startswith("everyday 1.0 (20 documents, ") and part.split(", ")[1] != whole.split(", ")[1]


@pytest.mark.usefixtures("stand_in")
def test_an_endpoint_is_scored_document_by_document(engine: VllmEngine) -> None:
    backend = served_by(engine.endpoint, "tokenizer", 128)
    (result,) = evaluate(Accuracy(limit=40), backend).values()
    assert len(result.scores) == 40 and 0 < sum(result.scores) < 40
    assert result.reported == pytest.approx(sum(result.scores) / 40)
    assert evaluate(Accuracy(limit=40), backend)["everyday"] == result


@pytest.mark.usefixtures("stand_in")
def test_your_own_tasks_take_the_place_of_those_that_come_with_the_project(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine.jsonl").write_text('{"question": "1", "options": ["a", "b"], "answer": 0}\n' * 3)
    assert describe(Accuracy(["mine"], include_path=str(tmp_path)), "accuracy").startswith("mine 1.0 (3 documents")
    with pytest.raises(ConfigError, match=r"^accuracy: the harness has no task 'everyda'; lm_eval ls tasks lists"):
        describe(Accuracy(["everyda"], include_path=str(tmp_path)), "accuracy")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("accuracy", "rule"),
    [
        (Accuracy(["everyda"]), "accuracy: the harness has no task 'everyda'; did you mean 'everyday'?"),
        (Accuracy(metric="f2"), "accuracy: the task has no metric 'f2': it has acc, length"),
        (Accuracy(metric="length"), "metric length of task everyday is no share of each document"),
        (Accuracy(include_path="nowhere"), "accuracy.include_path=nowhere is no folder"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(accuracy: Accuracy, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as refusal:
        describe(accuracy, "accuracy")
    assert "\n" not in str(refusal.value)


def test_without_the_harness_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(process, "version", missing)
    with pytest.raises(
        ConfigError, match=r"objectives.accuracy needs .* -m pip install .* -r \S*requirements/lm_eval.txt"
    ):
        check_harness("objectives.accuracy")


@pytest.mark.usefixtures("stand_in")
def test_an_endpoint_that_is_gone_gives_no_result() -> None:
    with pytest.raises(HarnessError, match="refused"):
        evaluate(Accuracy(limit=2), served_by(Endpoint("http://127.0.0.1:9", None, "model"), "tokenizer", 128))


@pytest.mark.usefixtures("stand_in")
def test_the_harness_ends_with_the_engine(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def died() -> NoReturn:
        raise EngineFailure(FailureKind.CRASH, "died")

    monkeypatch.setenv("STAND_IN_HANGS", "1")
    began = time.monotonic()
    with pytest.raises(EngineFailure, match="died"):
        evaluate(Accuracy(limit=2), served_by(engine.endpoint, "tokenizer", 128), died)
    assert time.monotonic() - began < 60  # the harness would hang for ten minutes


def test_no_key_of_the_environment_reaches_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    environment = process.environment(offline=False)
    assert environment["OPENAI_API_KEY"] == "" and "127.0.0.1" in environment["no_proxy"]
    own = served_by(Endpoint("http://127.0.0.1:8000", "key", "model"), "tokenizer", 128).arguments
    assert own["header"] == {"Authorization": "Bearer key"} and own["num_concurrent"] > 1
    assert served_by(Endpoint("http://far.example", None, "m"), "t", 128).arguments["num_concurrent"] == 1


def test_a_model_of_a_relative_path_is_found_from_the_tasks_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    backend = served_by(Endpoint("http://127.0.0.1:8000", None, "m"), "demo/model", 128)
    assert backend.arguments["tokenizer"] == str(ROOT / "demo/model")
    assert located("organisation/model") == "organisation/model"


@pytest.mark.parametrize(
    ("tasks", "model", "expected"),
    [
        (["everyday"], None, True), (["everyday"], "", True),
        (["everyday"], "org/model", False), (["arc_easy"], None, False),
    ],
    ids=["shipped task", "checkpoint on this disk", "model of a hub", "task of a hub"],
)  # fmt: skip
def test_a_hub_is_asked_only_for_what_is_not_on_this_machine(
    tasks: list[str], model: str | None, expected: bool, tmp_path: Path
) -> None:
    backend = {} if model is None else {"backend": {"arguments": {"tokenizer": model or str(tmp_path)}}}
    job = {"tasks": tasks, "include_path": str(process.TASKS), **backend}
    assert process.is_local(job) is expected
    assert ("HF_HUB_OFFLINE" in process.environment(expected)) is expected
