"""What each layer got, read off tensors as llm-compressor stores them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from optimize.quantize.layers import Precision, layer_precisions, stored_tensors, summary

INT8 = {"num_bits": 8, "type": "int", "strategy": "channel"}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
STATIC = {"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": False}
DYNAMIC = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}


def _checkpoint(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], groups: dict[str, Any] | None) -> Path:
    config = {} if groups is None else {"quantization_config": {"config_groups": groups}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors")
    return folder


def _int8(name: str, static: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    result: dict[str, np.ndarray[Any, Any]] = {
        f"{name}.weight": np.zeros((4, 8), np.int8), f"{name}.weight_scale": np.ones((4, 1), np.float16)
    }  # fmt: skip
    return result | ({f"{name}.input_scale": np.ones(1, np.float16)} if static else {})


def test_layers_of_two_groups_and_those_left_alone(tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "model.embed_tokens.weight": np.zeros((16, 8), np.float16),
        "model.norm.weight": np.ones(8, np.float16),
        **_int8("model.layers.0.self_attn.q_proj"),
        **_int8("model.layers.0.mlp.up_proj", static=True),
    }
    groups = {
        "attention": {"targets": [r"re:.*self_attn\..*"], "weights": INT8, "input_activations": DYNAMIC},
        "mlp": {"targets": [r"re:.*mlp\..*"], "weights": INT8, "input_activations": STATIC},
    }
    assert layer_precisions(_checkpoint(tmp_path, tensors, groups)) == {
        "model.embed_tokens": Precision("float16", "float"),
        "model.layers.0.self_attn.q_proj": Precision("int8 per channel", "dynamic int8"),
        "model.layers.0.mlp.up_proj": Precision("int8 per channel", "static int8"),
    }


def test_only_activations_with_a_stored_scale_are_static(tmp_path: Path) -> None:
    groups = {"all": {"targets": ["Linear"], "weights": INT8, "input_activations": STATIC}}
    result = layer_precisions(_checkpoint(tmp_path, _int8("a.b_proj"), groups))
    assert result == {"a.b_proj": Precision("int8 per channel", "dynamic int8")}


def test_packed_weights_without_quantized_activations(tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "a.b.weight_packed": np.zeros((4, 16), np.int32),
        "a.b.weight_scale": np.ones((4, 1), np.float16),
    }
    groups = {"all": {"targets": ["Linear"], "weights": INT4, "input_activations": None}}
    result = layer_precisions(_checkpoint(tmp_path, tensors, groups))
    assert result == {"a.b": Precision("int4 in groups of 128", "float")}


def test_a_model_that_nobody_quantized(tmp_path: Path) -> None:
    result = layer_precisions(_checkpoint(tmp_path, {"lm_head.weight": np.zeros((4, 8), np.float32)}, None))
    assert result == {"lm_head": Precision("float32", "float")}


def test_tensors_are_listed_with_their_sizes(tmp_path: Path) -> None:
    stored = stored_tensors(_checkpoint(tmp_path, {"a.weight": np.zeros((4, 8), np.float16)}, None))
    assert (stored["a.weight"].shape, stored["a.weight"].size_bytes) == ((4, 8), 64)


def test_the_summary_takes_blocks_together() -> None:
    int8, plain = Precision("int8 per channel", "static int8"), Precision("bfloat16", "float")
    layers = {f"model.layers.{i}.mlp.up_proj": int8 for i in range(12)}
    assert summary({**layers, "lm_head": plain}) == [
        "weights int8 per channel, activations static int8: model.layers.*.mlp.up_proj x12",
        "weights bfloat16, activations float: lm_head",
    ]


@pytest.mark.parametrize("target", ["a.b_proj", r"re:.*b_proj$"])
def test_a_target_that_names_a_layer_beats_its_class(tmp_path: Path, target: str) -> None:
    groups = {
        "rest": {"targets": ["Linear"], "weights": INT4, "input_activations": None},
        "closer": {"targets": [target], "weights": INT8, "input_activations": DYNAMIC},
    }
    result = layer_precisions(_checkpoint(tmp_path, _int8("a.b_proj"), groups))
    assert result["a.b_proj"] == Precision("int8 per channel", "dynamic int8")
