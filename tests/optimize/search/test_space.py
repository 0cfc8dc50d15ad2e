"""From knobs to distributions, from sampled values to a configuration, and vLLM's defaults as a point of the space."""

import itertools
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optimize.errors import ConfigError
from optimize.search.space import difference, flag_of, is_request_knob
from tests.optimize.search.spaces import CHECKPOINTS, RECIPES, SERVING, range_of, space_of

EFFECTIVE = {"max_num_seqs": 128}


# Building


def test_nodes_and_plain_lists_become_distributions() -> None:
    space = space_of(SERVING)
    assert dict(space.distributions) == {
        "quantization": CategoricalDistribution(["published", "int8", "int4"]),
        "batch_size": IntDistribution(1, 256, log=True),
        "beam_size": CategoricalDistribution([1, 2, 4]),
        "workers": IntDistribution(1, 2),
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
        ({"batch_size": {"low": 1, "high": 8}}, "mapping with a _target_"),
        ({"batch_size": 8}, "mapping with a _target_"),
        ({"beam_size": []}, r"search_space\.beam_size"),
        ({"quantization": ["fp16", "in8"]}, "did you mean 'int8'"),
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


# The baseline


def test_vllms_defaults_set_no_engine_knob_and_decode_greedily() -> None:
    config = space_of(SERVING).vllm_defaults(CHECKPOINTS)
    assert dict(config.engine.flags) == {"max_model_len": 256}
    assert (config.engine.quantization, config.request.beam_size, config.request.fields) == ("published", 1, ())


def test_recipes_with_a_data_type_of_their_own_say_so_and_others_leave_it_to_vllm() -> None:
    space = space_of({"quantization": ["published", "fp16", "int4"]})
    dtypes = {
        name: dict(space.resolve({"quantization": name}, CHECKPOINTS).engine.flags).get("dtype")
        for name in ("published", "fp16", "int4")
    }
    assert dtypes == {"published": None, "fp16": "float16", "int4": "bfloat16"}


def test_the_baseline_of_an_earlier_version_keeps_its_data_type() -> None:
    space = space_of({"quantization": ["fp16", "int8"], "batch_size": [8, 128]})
    engine = space.vllm_defaults(CHECKPOINTS, {"quantization": "fp16", "batch_size": 128}).engine
    assert (engine.quantization, dict(engine.flags)) == ("fp16", {"dtype": "float16", "max_model_len": 256})


def test_a_space_without_the_published_checkpoint_has_no_point_of_vllms_defaults() -> None:
    params, outside = space_of({"quantization": ["fp16", "int8"]}).baseline_params({})
    assert (params, outside) == ({"quantization": "fp16"}, ["quantization"])


@pytest.mark.parametrize("choices", [["published", "int8"], ["fp16", "int8"], ["int8", "int4"]])
def test_the_needed_recipes_include_that_of_vllms_defaults(choices: list[str]) -> None:
    space = space_of({"quantization": choices})
    made = {recipe.name: f"cache/{recipe.name}" for recipe in space.recipes_needed()}
    assert set(choices) <= set(made)
    assert space.vllm_defaults(made).engine.quantization == "published"


def test_the_baseline_has_the_defaults_that_the_engine_reports_and_this_project_defines() -> None:
    params, outside = space_of({**SERVING, "temperature": [0.0, 1.0]}).baseline_params(EFFECTIVE)
    assert params == {
        "quantization": "published",
        "batch_size": 128,
        "beam_size": 1,
        "workers": 1,
        "temperature": 0.0,
    }
    assert outside == []


FLOATS = {"_target_": "optuna.distributions.FloatDistribution", "low": 0.5, "high": 0.9}


@pytest.mark.parametrize(
    ("node", "default", "wide"),
    [
        (range_of(1, 64), 128, range_of(1, 128)),
        (range_of(1, 256, log=True), 1024, range_of(1, 1024, log=True)),
        (range_of(256, 512), 128, range_of(128, 512)),
        (range_of(100, 200, step=50), 300, range_of(100, 300, step=50)),
        ([8, 16, 100, 512], 128, [8, 16, 100, 512, 128]),
        (["low", "high"], "auto", ["low", "high", "auto"]),
        (FLOATS, 0.92, {**FLOATS, "high": 0.92}),
    ],
)
def test_vllms_default_is_a_point_of_the_space(node: Any, default: Any, wide: Any) -> None:
    """An H100's is 1024 sequences: it was measured with the 256 at which the space ended."""
    space = space_of({"batch_size": node})
    params, outside = space.baseline_params({"max_num_seqs": default})
    assert (params, outside) == ({"batch_size": default}, [])
    assert not space.contains(params) and space.including(params).contains(params)
    assert space.including(params).distributions == space_of({"batch_size": wide}).distributions
    assert space.including({"batch_size": node[0] if isinstance(node, list) else node["low"]}) is space


@pytest.mark.parametrize(
    ("node", "default", "nearest"),
    [
        (range_of(0, 200, step=50), 128, 150),
        (range_of(1, 64, log=True), 0, 1),
        (range_of(1, 64), 64.5, 64),
        (range_of(2, 64), True, 2),
    ],
)
def test_a_default_that_no_such_range_holds_is_replaced_by_the_nearest_and_said_so(
    node: Any, default: Any, nearest: int
) -> None:
    space = space_of({"batch_size": node})
    params, outside = space.baseline_params({"max_num_seqs": default})
    assert (params, outside) == ({"batch_size": nearest}, ["batch_size"]) and space.including(params) is space


def test_overrides_take_precedence_over_defaults_that_the_engine_reports() -> None:
    space = space_of(SERVING, baseline={"batch_size": 64, "beam_size": 2})
    params, outside = space.baseline_params(EFFECTIVE)
    assert (params["batch_size"], params["beam_size"], outside) == (64, 2, [])


def test_the_baselines_engine_and_requests_have_what_the_user_has_set_for_it_and_nothing_else() -> None:
    space = space_of(SERVING, baseline={"batch_size": 64, "beam_size": 2})
    params, _ = space.baseline_params(EFFECTIVE)
    plain, ours = space.vllm_defaults(CHECKPOINTS), space.vllm_defaults(CHECKPOINTS, params)
    assert set(ours.engine.flags) - set(plain.engine.flags) == {("max_num_seqs", 64)}
    assert (plain.request.beam_size, ours.request.beam_size) == (1, 2)
    assert space_of(SERVING).vllm_defaults(CHECKPOINTS, params) == plain


@pytest.mark.parametrize(
    ("knob", "choices", "reported", "value"),
    [
        ("kv_cache_dtype", ["auto", "fp8"], "auto", "auto"),
        ("dtype", ["auto", "float32"], "bfloat16", "auto"),
        ("attention_backend", ["FLASHINFER", "flash_attn"], "FLASH_ATTN", "flash_attn"),
        ("attention_backend", [None, "FLASHINFER"], "FLASH_ATTN", None),
        ("block_size", [None, 32], 128, None),
        ("block_size", [None, 32], None, None),
        ("optimization_level", [0, 2], 2, 2),
        ("performance_mode", ["balanced", "throughput"], "balanced", "balanced"),
        (
            "compilation_config", ['{"cudagraph_mode": "NONE"}', '{"cudagraph_mode": "FULL"}'],
            {"cudagraph_mode": "FULL", "mode": 3}, '{"cudagraph_mode": "FULL"}',
        ),
        ("cudagraph_capture_sizes", ["[1, 2]", "[1, 2, 4]"], [1, 2, 4], "[1, 2, 4]"),
    ],
)  # fmt: skip
def test_the_choice_that_stands_for_vllms_default_is_the_baselines(
    knob: str, choices: list[Any], reported: Any, value: Any
) -> None:
    effective = {} if reported is None else {knob: reported}
    assert space_of({knob: choices}).baseline_params(effective) == ({knob: value}, [])


def test_a_flag_that_vllm_does_not_report_is_left_to_it_where_choices_can_say_so() -> None:
    space = space_of({"block_size": [32, 64]})
    params, outside = space.baseline_params({})
    assert (params, outside) == ({"block_size": None}, [])
    assert list(getattr(space.including(params).distributions["block_size"], "choices", ())) == [32, 64, None]
    assert space_of({"block_size": range_of(16, 64)}).baseline_params({}) == ({"block_size": 16}, ["block_size"])


def test_a_whole_part_of_vllms_configuration_is_no_choice() -> None:
    space = space_of({"compilation_config": ['{"cudagraph_mode": "NONE"}', '{"cudagraph_mode": "FULL"}']})
    reported = {"compilation_config": {"cudagraph_mode": "PIECEWISE", "mode": 3}}
    assert space.baseline_params(reported) == ({"compilation_config": None}, [])


def test_a_field_of_requests_without_a_default_must_be_configured_unless_null_is_a_choice() -> None:
    with pytest.raises(ConfigError, match=r"\+baseline\.top_k="):
        space_of({"top_k": [32, 64]}).baseline_params({})
    assert space_of({"top_k": [None, 32]}).baseline_params({}) == ({"top_k": None}, [])


# Fingerprints


def test_fingerprint_tells_spaces_apart_and_ignores_the_order_of_knobs() -> None:
    space = space_of(SERVING)
    assert space_of(dict(reversed(SERVING.items()))).fingerprint() == space.fingerprint()
    for change in (
        {"batch_size": range_of(1, 128, log=True)}, {"batch_size": range_of(1, 256)}, {"beam_size": [1, 2]},
        {"workers": None},
    ):  # fmt: skip
        assert space_of({**SERVING, **change}).fingerprint() != space.fingerprint()


def test_difference_names_added_removed_and_changed_keys() -> None:
    assert difference({"a": "x", "b": 1, "c": 3}, {"a": "y", "c": 3, "d": [1]}) == [
        "a: was x, is y",
        "b: was 1, is absent",
        "d: was absent, is [1]",
    ]


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
