"""The baseline: vLLM's defaults as a configuration, and as a point of the search space."""

from typing import Any

import pytest

from optimize.errors import ConfigError
from tests.optimize.search.spaces import CHECKPOINTS, SERVING, range_of, space_of

EFFECTIVE = {"max_num_seqs": 128}


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
    checkpoints = {recipe.name: f"cache/{recipe.name}" for recipe in space.recipes_needed()}
    assert set(choices) <= set(checkpoints)
    assert space.vllm_defaults(checkpoints).engine.quantization == "published"


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
