"""What is named twice where once is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.config.compose import configuration
from optimize.config.locations import CONF
from optimize.config.repetition import refuse_repeated_additions, refuse_repeated_choices, refuse_repetition
from optimize.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "shown"), [(["a", "b", "a"], "'a'"), ([1, 2, 1.0], "1.0"), ([{"a": 1}, {"a": 1}], "{'a': 1}")]
)
def test_a_value_that_stands_twice_is_named(values: list[object], shown: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        refuse_repetition("knob", values)
    assert str(refusal.value) == f"knob holds {shown} twice: leave one out"


def test_a_number_and_a_truth_value_are_two_values() -> None:
    refuse_repetition("knob", [0, False, "0", None, 1, True])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("objectives=[qps,qps]", "objectives holds 'qps' twice: leave one out"),
        ("objectives@metrics=[qps,bleu,qps]", "objectives@metrics holds 'qps' twice"),
        ("constraints=[chat,chat]", "constraints holds 'chat' twice"),
        ("+study=[chat,chat]", "study holds 'chat' twice"),
    ],
)
def test_a_choice_of_a_group_is_named_once(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        configuration([word])
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("word", ["objectives=[qps,bleu]", "+study=chat", "objectives=[", "at=[a,a]", "objectives={}"])
def test_other_words_are_left_to_hydra(word: str) -> None:
    refuse_repeated_choices([word], [CONF])


def test_a_study_of_the_users_own_names_each_choice_once(tmp_path: Path) -> None:
    path = tmp_path / "study" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("# @package _global_\ndefaults:\n  - _self_\n  - override /objectives: [qps, bleu, qps]\n")
    with pytest.raises(ConfigError, match=r"^objectives in .*/study/mine\.yaml holds 'qps' twice: leave one out$"):
        configuration([f"--config-dir={tmp_path}", "+study=mine"])
    for text in ("defaults: [", "defaults: {a: [b, b]}", "- a", "", "\x00"):
        path.write_text(text)
        refuse_repeated_choices(["+study=mine"], [CONF, tmp_path])


def test_a_key_is_added_once() -> None:
    refuse_repeated_additions(
        ["+constraints.a={max: 1}", "constraints.a.max=2", "+constraints.b={max: 1}", "~a", "+c=1", "++c=2"]
    )
    with pytest.raises(ConfigError, match=r"^\+constraints\.a is given twice: give it once$"):
        refuse_repeated_additions(["+constraints.a={max: 1}", "study.trials=3", "+constraints.a={max: 2}"])
