"""From knobs to distributions, and from sampled values to a configuration."""

import itertools
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optimize.errors import ConfigError
from optimize.search.knobs import flag_of, is_request_knob
from tests.optimize.search.spaces import CHECKPOINTS, RECIPES, SERVING, range_of, space_of

# Building


def test_nodes_and_plain_lists_become_distributions() -> None:
    space = space_of(SERVING)
    assert dict(space.distributions) == {
        "quantization": CategoricalDistribution(["published", "int8", "int4"]),
        "batch_size": IntDistribution(1, 256, log=True),
        "beam_size": CategoricalDistribution([1, 2, 4]),
        "workers": IntDistribution(1, 2),
    }


def test_a_node_without_a_target_is_what_its_keys_call_for() -> None:
    nodes = {
        "batch_size": {"low": 1, "high": 256, "log": True},
        "max_num_batched_tokens": {"low": 512, "high": 2048, "power_of_two": True},
        "top_p": {"low": 0.5, "high": 1.0},
        "beam_size": {"choices": [1, 2]},
    }
    assert dict(space_of(nodes).distributions) == {
        "batch_size": IntDistribution(1, 256, log=True),
        "max_num_batched_tokens": CategoricalDistribution([512, 1024, 2048]),
        "top_p": FloatDistribution(0.5, 1.0),
        "beam_size": CategoricalDistribution([1, 2]),
    }


def test_a_knob_set_to_null_is_left_out() -> None:
    assert list(space_of({**SERVING, "workers": None, "beam_size": None}).distributions) == [
        "quantization",
        "batch_size",
    ]


def test_knobs_are_sorted_into_engine_and_request() -> None:
    space = space_of({**SERVING, "block_size": [32, 128], "temperature": [0.0, 0.7]})
    assert space.engine_flags == ["max_num_seqs", "api_server_count", "block_size"]
    assert space.request_knobs == ["beam_size", "temperature"]


def test_flags_keep_their_own_name_unless_the_knob_has_a_better_one() -> None:
    assert [flag_of(k) for k in ("batch_size", "workers", "block_size")] == [
        "max_num_seqs", "api_server_count", "block_size",
    ]  # fmt: skip
    assert [is_request_knob(k) for k in ("beam_size", "top_p", "batch_size", "quantization")] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({}, "search_space is empty"),
        ({"workers": None}, "search_space is empty"),
        ({"batch_size": range_of(256, 1)}, r"search_space\.batch_size.*low <= high"),
        ({"batch_size": range_of(0, 16, log=True)}, r"search_space\.batch_size"),
        ({"batch_size": range_of(1, 16, hgih=3)}, "did you mean 'high'"),
        ({"batch_size": {"low": 1, "hgih": 8}}, "mapping with a _target_"),
        ({"batch_size": {"low": 5, "high": 7, "power_of_two": True}}, "no power of two lies between"),
        ({"batch_size": 8}, "mapping with a _target_"),
        ({"beam_size": []}, r"search_space\.beam_size"),
        ({"quantization": ["fp16", "in8"]}, "did you mean 'int8'"),
        ({"quantization": {"choices": "int8"}}, r"choices must be a list, got 'int8': write \[int8\]"),
        ({"beam_size": {"choices": [1, 2, 1]}}, "choices holds 1 twice: leave one out"),
        ({"quantization": range_of(4, 16)}, "must be a CategoricalDistribution"),
        ({"beam_size": [0, 1]}, "whole numbers from 1"),
        ({"beam_size": [1, 2.5]}, "whole numbers from 1"),
        ({"batch_size": [8], "max_num_seqs": [16]}, "both set 'max_num_seqs'"),
        ({"max_model_len": [128, 256]}, r"also fixed by model\.flags\.max_model_len"),
        ({"batch_size": {"_target_": "optimize.config.measuring.Bound"}}, "must be a distribution"),
    ],
)
def test_bad_spaces_are_refused_with_the_reason(nodes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space_of(nodes)


def test_baseline_of_an_unknown_knob_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        space_of(SERVING, baseline={"batchsize": 8})


# Resolving


def test_every_knob_reaches_its_place() -> None:
    params = {
        "quantization": "int8",
        "batch_size": 32,
        "beam_size": 4,
        "workers": 2,
        "top_p": 0.9,
        "temperature": 0.5,
    }
    config = space_of(SERVING).resolve(params, CHECKPOINTS)
    assert (config.engine.checkpoint, config.engine.quantization) == ("cache/int8", "int8")
    assert dict(config.engine.flags) == {
        "max_num_seqs": 32, "api_server_count": 2, "max_model_len": 256, "kv_cache_dtype": "fp8",
    }  # fmt: skip
    assert (config.request.beam_size, config.request.fields) == (4, (("temperature", 0.5), ("top_p", 0.9)))


def test_a_knob_overrides_flags_of_model_and_recipe() -> None:
    space = space_of({"quantization": ["int8"], "kv_cache_dtype": ["auto", "fp8"]})
    flags = dict(space.resolve({"quantization": "int8", "kv_cache_dtype": "auto"}, CHECKPOINTS).engine.flags)
    assert flags["kv_cache_dtype"] == "auto"


def test_request_knobs_do_not_change_the_engine_and_engine_knobs_do() -> None:
    space = space_of(SERVING)
    point = {"quantization": "published", "batch_size": 8, "beam_size": 1, "workers": 1}
    key = space.resolve(point, CHECKPOINTS).engine.key
    assert space.resolve({**point, "beam_size": 4}, CHECKPOINTS).engine.key == key
    for change in ({"quantization": "int4"}, {"batch_size": 9}, {"workers": 2}):
        assert space.resolve({**point, **change}, CHECKPOINTS).engine.key != key


def test_equal_points_have_equal_keys_in_any_order_of_knobs() -> None:
    space = space_of(SERVING)
    point = {"quantization": "published", "batch_size": 8, "beam_size": 2, "workers": 1}
    orders = [dict(order) for order in itertools.permutations(point.items())]
    assert len({space.resolve(order, CHECKPOINTS).engine.key for order in orders}) == 1


def test_without_a_quantization_knob_the_fixed_recipe_is_served() -> None:
    space = space_of({"batch_size": [8]}, fixed=RECIPES["int4"])
    assert space.resolve({"batch_size": 8}, CHECKPOINTS).engine.checkpoint == "cache/int4"
    assert space.vllm_defaults(CHECKPOINTS).engine.quantization == "int4"
    assert space.recipes_needed() == [RECIPES["int4"]]


@pytest.mark.parametrize(("beams", "needed"), [([1, 2, 4], None), ([1, 10], None), ([1, 16], 32)])
def test_wide_beams_need_more_log_probabilities_than_vllm_allows(beams: list[int], needed: int | None) -> None:
    space = space_of({"beam_size": beams})
    configs = [space.resolve({"beam_size": 1}, CHECKPOINTS), space.vllm_defaults(CHECKPOINTS)]
    assert [dict(c.engine.flags).get("max_logprobs") for c in configs] == [needed, needed]


# Fingerprints


def test_fingerprint_tells_spaces_apart_and_ignores_the_order_of_knobs() -> None:
    space = space_of(SERVING)
    assert space_of(dict(reversed(SERVING.items()))).fingerprint() == space.fingerprint()
    for change in (
        {"batch_size": range_of(1, 128, log=True)}, {"batch_size": range_of(1, 256)}, {"beam_size": [1, 2]},
        {"workers": None},
    ):  # fmt: skip
        assert space_of({**SERVING, **change}).fingerprint() != space.fingerprint()


def test_float_ranges_are_understood() -> None:
    node = {"_target_": "optuna.distributions.FloatDistribution", "low": 0.6, "high": 1.4}
    space = space_of({"length_penalty": node}, baseline={"length_penalty": 2.0})
    assert space.distributions["length_penalty"] == FloatDistribution(0.6, 1.4)
    assert space.baseline_params({}) == ({"length_penalty": 1.4}, ["length_penalty"])


@pytest.mark.parametrize("knob", ["batch_size", "max_num_seqs"])
def test_users_and_their_beams_bound_the_number_of_sequences(knob: str) -> None:
    assert space_of({knob: [1, 64], "beam_size": [1, 2, 4]}).saturation(users=4) == {knob: 16.0}
    assert space_of({knob: [1, 64], "workers": [1, 2]}).saturation(users=4) == {knob: 4.0}
    assert space_of({"workers": [1, 2]}).saturation(users=4) == {}


def test_every_recipe_with_a_checkpoint_has_an_engine_without_knobs() -> None:
    space = space_of(SERVING)
    engines = space.plain_engines({name: path for name, path in CHECKPOINTS.items() if name != "int8"})
    assert "int8" not in engines and engines["published"] == space.vllm_defaults(CHECKPOINTS).engine
    assert all(engine.quantization == name for name, engine in engines.items())
