"""Mappings and lists are values of a knob, of the baseline and of `at` like any other."""

from __future__ import annotations

import json
import shlex
import warnings

import pytest

from optimize.config.compose import configuration
from optimize.config.grammar import override_value
from optimize.config.schema import StudyConfig
from optimize.config.structured import as_text
from optimize.engine.flags import to_arguments
from optimize.errors import ConfigError
from optimize.search.space import SearchSpace, make_space
from optimize.study.target import only_point

NGRAM = {"method": "ngram", "num_speculative_tokens": 3}
WORD = "+search_space.speculative_config=[null,{method: ngram, num_speculative_tokens: 3}]"


def _space(config: StudyConfig) -> SearchSpace:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of choices that its storage cannot hold
        return make_space(config.search_space, config.model, config.recipes, config.quantization, config.baseline)


def _arguments(space: SearchSpace, **params: object) -> list[str]:
    knobs = {"quantization": "published", "batch_size": 8, "beam_size": 1, "workers": 1}
    checkpoints = dict.fromkeys(space.recipes, "demo/model")
    return to_arguments(space.resolve({**knobs, **params}, checkpoints).engine.flags)


def test_a_mapping_is_a_choice_and_reaches_vllm_as_json() -> None:
    space = _space(configuration(["+study=chat", WORD]))
    choices = space.distributions["speculative_config"].choices  # type: ignore[attr-defined]
    assert choices == (None, json.dumps(NGRAM))
    assert f"--speculative-config={json.dumps(NGRAM)}" in _arguments(space, speculative_config=choices[1])
    assert not any("speculative" in word for word in _arguments(space, speculative_config=None))


def test_a_list_is_a_choice_and_reaches_vllm_as_separate_values() -> None:
    space = _space(configuration(["+study=chat", "+search_space.cudagraph_capture_sizes=[null,[1,2],[1,2,4,8]]"]))
    words = _arguments(space, cudagraph_capture_sizes="[1, 2, 4, 8]")
    at = words.index("--cudagraph-capture-sizes")
    assert words[at + 1 : at + 5] == ["1", "2", "4", "8"]


def test_vllms_default_of_such_a_flag_is_null_where_that_is_a_choice() -> None:
    space = _space(configuration(["+study=chat", WORD]))
    effective = {"max_num_seqs": 128, "speculative_config": {"method": None, "num_speculative_tokens": None}}
    assert space.baseline_params(effective)[0]["speculative_config"] is None


def test_a_condition_may_name_a_mapping() -> None:
    node = "{_target_: optuna.distributions.CategoricalDistribution, choices: [1, 2], when: {speculative_config: [%s]}}"
    ngram = "{method: ngram, num_speculative_tokens: 3}"
    space = _space(configuration(["+study=chat", WORD, f"+search_space.max_num_partial={node % ngram}"]))
    assert space.counts("max_num_partial", {"speculative_config": json.dumps(NGRAM)})
    assert not space.counts("max_num_partial", {"speculative_config": None})


@pytest.mark.parametrize("text", ["{method: ngram, num_speculative_tokens: 3}", json.dumps(NGRAM)])
def test_one_configuration_by_hand_takes_a_mapping(text: str) -> None:
    config = configuration(["+study=chat", f"+at.speculative_config={text}"])
    assert config.at == {"speculative_config": json.dumps(NGRAM)}
    assert only_point(config, "by-hand").search_space["speculative_config"] == [json.dumps(NGRAM)]


def test_a_row_is_measured_again_by_the_command_that_its_bundle_gives() -> None:
    (word,) = shlex.split(shlex.quote(f"+at.speculative_config={override_value(json.dumps(NGRAM))}"))
    assert configuration(["+study=chat", word]).at == {"speculative_config": json.dumps(NGRAM)}


def test_several_values_by_hand_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be one value"):
        configuration(["+study=chat", "+at.batch_size=[1,2]"])


@pytest.mark.parametrize("value", [None, 3, "a", True, 0.5])
def test_other_values_stay_as_they_are(value: object) -> None:
    assert as_text(value) is value
