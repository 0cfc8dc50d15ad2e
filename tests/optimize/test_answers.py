"""What two configurations answered to the same prompts, for people to read."""

from pathlib import Path

import pytest

from optimize.answers import side_by_side
from optimize.workload.workload import Prompt
from tests.conftest import Run
from tests.made import make_study
from tests.optimize.config.test_bad_input import refusal

PROMPTS: list[Prompt] = [
    "one?",
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "two?"}],
    "three?",
]


def test_answers_in_other_words_come_first_and_equal_ones_stand_once() -> None:
    text = side_by_side(PROMPTS, {0: "yes", 1: "two\n", 2: "3"}, {1: "deux", 0: "yes"}, "trial 7")
    assert text.splitlines() == [
        "trial 7 and vLLM's defaults answered 2 prompts, 1 of them in the same words. The first with other words:", "",
        "**two?**", "", "- defaults: two", "- trial 7: deux", "",
        "**one?**", "", "- both: yes",
    ]  # fmt: skip


def test_a_long_prompt_is_shown_by_its_beginning_and_an_empty_answer_as_nothing() -> None:
    text = side_by_side(["word " * 100], {0: "\x1b[31mred"}, {0: " "}, "trial 7")
    assert "**" + "word " * 39 + "word …**" in text
    assert "- defaults: \\x1b[31mred\n- trial 7: (nothing)" in text


def test_five_prompts_are_shown() -> None:
    answers = {row: "a" for row in range(9)}
    assert side_by_side(["p"] * 9, answers, answers, "trial 7").count("- both: a") == 5


@pytest.fixture
def study(quick: list[str]) -> list[str]:
    make_study(quick)
    return quick


def test_the_command_reads_what_the_study_stored(optimize: Run, study: list[str], tmp_path: Path) -> None:
    result = optimize([*study, "row=1"], verb="optimize.answers")
    assert result.returncode == 0, result.stderr
    assert "trial 1 and vLLM's defaults answered" in result.stdout and result.stdout.count("- both: ") == 5
    (written,) = (tmp_path / "out").rglob("answers.md")
    assert written.read_text(encoding="utf-8").strip() in result.stdout


def test_answers_belong_to_their_prompts(optimize: Run, study: list[str]) -> None:
    message = refusal(optimize([*study, "workload=demo_bulk"], verb="optimize.answers"))
    assert (
        "was measured with workload demo_chat" in message and "give the overrides of the study's own command" in message
    )
