"""A study that fits the model on the command line takes the place of the general one."""

from pathlib import Path

import pytest

from optimize.config.compose import configuration
from optimize.config.specialization import specialized

FITTING = """# @package _global_
defaults:
  - /study/chat
  - override /workload: demo_bulk
  - _self_
study: {name: chat_mine, trials: 5}
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with a model and the chat study that fits it."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"model/mine.yaml": "name: mine\npath: demo/model\n", "study/mine/chat.yaml": FITTING}.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True)
        (tmp_path / "conf" / name).write_text(text, encoding="utf-8")
    return tmp_path / "conf"


@pytest.mark.parametrize("words", [["model=mine", "+study=chat"], ["++study=chat", "seed=1", "model=mine"]])
def test_a_study_is_replaced_by_that_of_the_model(conf: Path, words: list[str]) -> None:
    assert specialized(words, [conf]) == [word.replace("study=chat", "study=mine/chat") for word in words]


@pytest.mark.parametrize(
    "words",
    [["+study=chat"], ["model=demo", "+study=chat"], ["model=mine", "+study=bulk"], ["model=mine", "study.name=chat"]],
)
def test_other_words_are_left_alone(conf: Path, words: list[str]) -> None:
    assert specialized(words, [conf]) == words


def test_it_goes_beyond_the_general_one_and_the_users_words_beyond_both(conf: Path) -> None:
    config = configuration(["+study=chat", "model=mine"])
    assert (config.study.name, config.study.trials, config.workload.name) == ("chat_mine", 5, "demo_bulk")
    assert config.load.window_requests == configuration(["+study=chat"]).load.window_requests
    config = configuration(["+study=chat", "model=mine", "workload=demo_abtest", "study.trials=7"])
    assert (config.study.trials, config.workload.name) == (7, "demo_abtest")
