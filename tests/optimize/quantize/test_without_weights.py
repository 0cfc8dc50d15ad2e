"""A quantized configuration of a model without weights, from one layer that a test makes instead of llm-compressor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from optimize.quantize.layers import Precision
from optimize.quantize.without_weights import has_weights, one_layer, write_configuration
from tests.conftest import ROOT

SHAPE = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64_000,
    "dtype": "bfloat16",
}  # fmt: skip
INT8 = {
    "quant_method": "compressed-tensors", "ignore": ["lm_head"],
    "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
        "input_activations": {"num_bits": 8, "type": "int"},
    }},
}  # fmt: skip
LAYER = "model.layers.0.mlp.up_proj"


class Compressed:
    """A layer as llm-compressor leaves it."""

    def save_pretrained(self, folder: str, **_: Any) -> None:
        config = {**SHAPE, "num_hidden_layers": 1, "quantization_config": INT8}
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        weights = {f"{LAYER}.weight": torch.ones(4, 4, dtype=torch.int8), f"{LAYER}.weight_scale": torch.ones(4, 1)}
        save_file(weights, Path(folder, "model.safetensors"))


def test_the_whole_model_gets_the_quantization_of_one_layer_and_no_weights(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "int8"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(SHAPE), encoding="utf-8")
    precisions = write_configuration(Compressed(), str(source), folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8")) == {**SHAPE, "quantization_config": INT8}
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert precisions == {LAYER: Precision("int8 per channel", "dynamic int8")}


def test_one_layer_has_the_widths_of_all_and_a_small_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SHAPE), encoding="utf-8")
    model = one_layer(str(tmp_path), "auto", 512)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["model.layers.0.mlp.down_proj.weight"] == (32, 48) and shapes["lm_head.weight"] == (512, 32)
    assert not any("layers.1." in name for name in shapes) and model.dtype is torch.bfloat16


def test_weights_are_seen(tmp_path: Path) -> None:
    assert has_weights(str(ROOT / "demo/model")) and has_weights("somebody/model-of-a-hub")
    assert not has_weights(str(tmp_path))
