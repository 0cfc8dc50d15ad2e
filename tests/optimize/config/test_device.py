"""The search space that a machine's GPUs choose, with GPUs that the test makes up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from optimize.config import device
from optimize.config.compose import configuration
from optimize.config.locations import CONF
from optimize.config.recipes import check_on_cuda, check_unquantized
from optimize.config.schema import Recipe, StudyConfig
from optimize.errors import ConfigError
from optimize.hardware import Gpu
from optimize.search.distributions import powers_of_two
from optimize.search.space import SearchSpace, make_space

H100, L4, T4, B200 = Gpu(0, "H100", (9, 0)), Gpu(0, "L4", (8, 9)), Gpu(0, "T4", (7, 5)), Gpu(0, "B200", (10, 0))
ON_CPU = {"quantization", "batch_size", "beam_size", "workers"}


def composed(monkeypatch: pytest.MonkeyPatch, gpus: Sequence[Gpu], *words: str) -> StudyConfig:
    monkeypatch.setattr(device, "devices", lambda: gpus)
    return configuration(words)


def space_of(config: StudyConfig) -> SearchSpace:
    return make_space(config.search_space, config.model, config.recipes, config.quantization, config.baseline)


def test_a_gpu_has_a_space_of_its_own_which_holds_vllms_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed(monkeypatch, [H100], "+study=chat")
    assert config.load.arrivals["users"] == "auto" and config.load.capacity.otherwise == 4
    space = space_of(config)
    reported = {
        "max_num_seqs": 1024, "api_server_count": 1, "max_num_batched_tokens": 8192, "kv_cache_dtype": "auto",
        "enable_prefix_caching": True, "performance_mode": "balanced", "optimization_level": 2,
        "compilation_config": {"cudagraph_mode": "FULL_AND_PIECEWISE"}, "attention_backend": "FLASH_ATTN",
    }  # fmt: skip
    assert [recipe.name for recipe in space.recipes_needed()] == device.recipes()
    params, outside = space.baseline_params(reported)
    assert outside == [] and (params["batch_size"], params["attention_backend"]) == (1024, None)
    assert space.baseline_params({**reported, "max_num_seqs": 256, "max_num_batched_tokens": 2048})[1] == []
    assert {*space.distributions} == ON_CPU | {*reported, "speculative_config"} - {"max_num_seqs", "api_server_count"}


@pytest.mark.parametrize(
    ("gpus", "recipes", "has_fp8_cache"),
    [
        ([H100], ["published", "fp8", "fp8_tensor", "fp8_block", "int8", "int4"], True),
        ([L4], ["published", "fp8", "fp8_tensor", "int8", "int4"], True),
        ([T4, H100], ["published", "int8", "int4"], False),
        ([B200], ["published", "fp8", "fp8_tensor", "fp8_block", "nvfp4", "int4"], True),
        ([Gpu(0, "GPU")], ["published", "int8", "int4"], False),
    ],
)
def test_formats_are_those_that_every_gpu_computes_in(
    gpus: Sequence[Gpu], recipes: list[str], has_fp8_cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "devices", lambda: gpus)
    assert device.recipes() == recipes
    assert device.since(8.9, ["auto", "fp8"]) == (["auto", "fp8"] if has_fp8_cache else None)


def test_batch_sizes_are_powers_of_two_between_bounds_that_a_user_may_set(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["search_space.batch_size.low=100", "search_space.batch_size.high=600"]
    config = composed(monkeypatch, [H100], "+study=chat", *words)
    assert list(getattr(space_of(config).distributions["batch_size"], "choices", ())) == [128, 256, 512]
    with pytest.raises(ConfigError, match="no power of two lies between low=5 and high=7"):
        powers_of_two(5, 7)


def test_several_gpus_are_shared_by_tensor_or_by_data_parallelism(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(composed(monkeypatch, [H100] * 4, "+study=chat"))
    assert space.counts("data_parallel_size", {"tensor_parallel_size": 1})
    assert not space.counts("data_parallel_size", {"tensor_parallel_size": 4})
    for knob in ("tensor_parallel_size", "data_parallel_size"):
        assert list(getattr(space.distributions[knob], "choices", ())) == [1, 2, 4]


@pytest.mark.parametrize(
    ("words", "left_out", "free"),
    [
        (["+study=capacity"], "beam_size", "speculative_config"),
        (["+study=chat", "search_space.tensor_parallel_size=null"], "tensor_parallel_size", "data_parallel_size"),
    ],
)
def test_a_knob_that_depends_on_one_that_is_left_out_always_counts(
    words: list[str], left_out: str, free: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_of(composed(monkeypatch, [H100] * 2, *words))
    assert left_out not in space.distributions and free in space.distributions
    assert space.counts(free, {}) and not space.counts("compilation_config", {"optimization_level": 0})


def test_without_a_gpu_and_where_a_study_or_its_user_names_one_the_space_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {*space_of(composed(monkeypatch, [], "+study=chat")).distributions} == ON_CPU
    assert {*space_of(composed(monkeypatch, [H100], "+study=chat", "space=serving")).distributions} == ON_CPU
    smoke = composed(monkeypatch, [H100], "+study=smoke")
    assert "workers" not in space_of(smoke).distributions and smoke.load.arrivals["users"] == 4
    real = space_of(composed(monkeypatch, [H100], "+study=chat", "model=smollm2"))
    assert "performance_mode" in real.distributions and not real.variables


@pytest.mark.parametrize(
    ("load", "level", "elsewhere"),
    [
        ("chat", "users", 4),
        ("bulk", "users", 16),
        ("closed", "users", 8),
        ("abtest", "rate_per_s", 5.0),
        ("trickle", "rate_per_s", 1.0),
    ],
)
def test_a_load_of_the_studies_is_what_a_gpu_carries_unless_nothing_could_be_searched_for(
    load: str, level: str, elsewhere: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(gpus: Sequence[Gpu], turns: str = "last", **parts: object) -> tuple[object, object]:
        monkeypatch.setattr(device, "devices", lambda: gpus)
        node: Any = OmegaConf.load(CONF / "load" / f"{load}.yaml")
        engine, workload = {"_target_": "optimize.engine.vllm.VllmLauncher"}, {"turns": turns}
        OmegaConf.update(node, "capacity.search", parts.pop("search", False))
        root = OmegaConf.create({"load": node, "engine": engine, "workload": workload, **parts})
        return root.load.arrivals[level], root.load.capacity.otherwise

    device.register()
    assert settings([H100]) == ("auto", elsewhere)
    assert settings([]) == settings([H100], "all") == settings([H100], search=True) == (elsewhere, None)
    for target in ("remote.RemoteLauncher", "simulated.SimulatedLauncher"):
        assert settings([H100], engine={"_target_": f"optimize.engine.{target}"}) == (elsewhere, None)


def test_a_machine_with_vllms_cpu_build_counts_as_one_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda: [H100])
    assert list(device.devices()) == []
    monkeypatch.setattr(device, "_CPU_BUILD", "no-such-distribution")
    assert list(device.devices()) == [H100]


def test_four_bit_weights_with_integer_activations_are_refused_on_gpus() -> None:
    recipes = [Recipe("published"), Recipe("dynamic4", scheme="W4A8"), Recipe("int4", scheme="W4A16")]
    with pytest.raises(ConfigError, match=r"dynamic4 \(W4A8\) has no kernel on GPUs.*choices=\[published,int4\]'"):
        check_on_cuda(recipes)
    check_on_cuda([recipes[0], recipes[2]])


def test_a_quantized_model_is_not_converted_once_more(tmp_path: Path) -> None:
    config = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    recipe = Recipe("fp8_tensor", flags={"quantization": "fp8_per_tensor"})
    with pytest.raises(ConfigError, match=r"quantized already \(awq int4\), and fp8_tensor would quantize it again"):
        check_unquantized(str(tmp_path), [Recipe("published"), recipe])
