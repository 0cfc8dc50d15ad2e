"""Activations are observed on the workload's own prompts."""

from optimize.quantize.calibration import Calibration, calibration_of
from optimize.workload.workload import Workload


def test_prompts_are_followed_by_the_answers_they_should_get() -> None:
    result = calibration_of(Workload("w", ["a cat\n", "a dog\n"], ["eine Katze", "ein Hund"], 8))
    assert result.samples == ["a cat\neine Katze", "a dog\nein Hund"]


def test_chat_messages_get_theirs_as_the_assistants() -> None:
    message = {"role": "user", "content": "a cat"}
    result = calibration_of(Workload("w", [[message]], ["eine Katze"], 8))
    assert result.samples == [[message, {"role": "assistant", "content": "eine Katze"}]]


def test_without_references_the_prompts_alone() -> None:
    assert calibration_of(Workload("w", ["a cat\n", [{"role": "user", "content": "b"}]], [], 8)).samples == [
        "a cat\n", [{"role": "user", "content": "b"}],
    ]  # fmt: skip


def test_samples_are_taken_evenly_and_are_the_same_each_time() -> None:
    whole = Calibration([str(i) for i in range(10)])
    assert whole.take(5).samples == ["0", "2", "4", "6", "8"]
    assert whole.take(10) is whole and whole.take(99) is whole


def test_other_samples_have_another_hash() -> None:
    assert Calibration(["a"]).hash == Calibration(["a"]).hash != Calibration(["b"]).hash
