"""What a question cannot change is refused where a word asks for it, and named where none does."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from optimize.config.command_words import head_of
from optimize.errors import ConfigError
from optimize.whatif.set_up import check_set_up

STORED: dict[str, Any] = {
    "study": {"name": "chat", "trials": 24, "fresh": True},
    "confirm": {"rounds": 3, "candidates": 2},
    "search_space": {"batch_size": {"_target_": "IntDistribution", "high": 256}, "workers": [1, 2]},
    "sampler": {"_target_": "optimize.search.gp_sampler.GPSampler", "startup": 8},
    "load": {"arrivals": {"_target_": "optimize.load.arrivals.ClosedLoop", "users": 4}},
    "workload": {"path": "/path-3"},
    "objectives": {"bleu": {"_target_": "Bleu", "order": 4}, "qps": {"_target_": "RequestRate"}},
    "slo": {"latency_max_s": 2.0},
    "constraints": {"qps": {"min": 1}},
    "output_dir": "mlruns",
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**STORED, **parts}


def notes(asked: dict[str, Any], *words: str, has_slo: bool = False) -> list[str]:
    return check_set_up("chat", yaml.safe_dump(STORED), head_of(words) + yaml.safe_dump(asked), ["bleu"], has_slo)


SPACE = {"batch_size": {"_target_": "IntDistribution", "high": 64}, "workers": [1, 2]}


@pytest.mark.parametrize(
    ("asked", "word", "rests_on"),
    [
        (changed(search_space=SPACE), "search_space.batch_size.high=64", "search_space.batch_size.high=256"),
        (changed(search_space={}), "~search_space.workers", "search_space.workers=[1, 2]"),
        (changed(search_space={}), "space=gpu", "search_space.batch_size=IntDistribution"),
        (
            changed(search_space={**STORED["search_space"], "block_size": [16, 32]}),
            "+search_space.block_size=[16,32]",
            "search_space.block_size=not set",
        ),
        (changed(sampler={"_target_": "optuna.samplers.TPESampler"}), "sampler=tpe", "sampler=GPSampler"),
        (changed(study={"name": "chat", "trials": 40}), "study.trials=40", "study.trials=24"),
        (
            changed(load={"arrivals": {"_target_": "optimize.load.arrivals.ClosedLoop", "users": 8}}),
            "load.arrivals.users=8",
            "load.arrivals.users=4",
        ),
        (changed(objectives={"bleu": {"_target_": "Bleu", "order": 2}}), "objectives.bleu.order=2", "s.bleu.order=4"),
        (changed(slo={"latency_max_s": 1.0}), "slo.latency_max_s=1", "slo.latency_max_s=2.0"),
    ],
)
def test_a_word_that_can_change_nothing_is_refused_with_what_was_measured(
    asked: dict[str, Any], word: str, rests_on: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        notes(asked, "+study=chat", "constraints.qps.min=2", word)
    assert str(refusal.value).startswith(f"{word} can change nothing here: what study 'chat' has measured rests on ")
    assert f"{rests_on}; leave it out, or run a study with it (python -m optimize)" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_words_of_the_study_and_what_a_question_may_change_pass() -> None:
    words = ("+study=chat", "study.trials=24", "sampler=gp", "search_space.batch_size.high=256", "space=serving")
    assert notes(STORED, *words) == []
    asked = changed(
        study={"name": "mine", "trials": 24, "fresh": False}, confirm={"rounds": 9, "candidates": 2},
        slo={"latency_max_s": 1.0}, constraints={"qps": {"min": 2}}, output_dir="out", workload={"path": "here.jsonl"},
        objectives={"qps": {"_target_": "RequestRate", "a": 1}, "goodput": {"_target_": "Goodput"}},
    )  # fmt: skip
    more = ("study.name=mine", "confirm.rounds=9", "slo.latency_max_s=1", "workload.path=here.jsonl")
    assert notes(asked, *words, *more, has_slo=True) == []


def test_what_no_word_asks_for_is_named_and_what_only_one_release_has_is_not() -> None:
    asked = changed(search_space=SPACE, study={"name": "chat", "trials": 40, "new": 1}, sampler={"_target_": "a.Grid"})
    (line,) = notes(asked, "+study=mine")
    assert line == (
        "What was measured stays as it is in the study, although this command's configuration differs: "
        "search_space.batch_size.high is 64, in the study 256; sampler is Grid, in the study GPSampler; "
        "study.trials is 40, in the study 24."
    )
    (other,) = notes(changed(objectives={"bleu": {"_target_": "Bleu", "order": 2}}), "objectives=[bleu]")
    assert other.endswith(": objectives.bleu.order is 2, in the study 4.")
    (longer,) = notes({**asked, "load": {"arrivals": {"_target_": "b.Trace"}}}, "+study=mine")
    assert longer.endswith("study.trials is 40, in the study 24; and 1 more.")


@pytest.mark.parametrize("stored", ["", "a: [", "- 1"])
def test_a_study_whose_configuration_is_lost_is_compared_with_nothing(stored: str) -> None:
    asked = head_of(["study.trials=40"]) + yaml.safe_dump(changed(study={"trials": 40}))
    assert check_set_up("chat", stored, asked, [], False) == []
