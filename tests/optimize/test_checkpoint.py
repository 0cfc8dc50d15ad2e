"""What is read off a checkpoint's files."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from optimize.checkpoint import (
    content_hash,
    defaults_in_words,
    file_states,
    hash_of_files,
    local_folder,
    model_config,
    quantized_format,
    sampling_defaults,
    tensor_bytes,
    unreadable_format,
)
from optimize.checkpoint.files import _tensor_bytes
from tests.packed import CONFIGS, checkpoint


def _model(folder: Path, value: float = 1.0, hidden: int = 8) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": hidden}), encoding="utf-8")
    save_file({"a": np.full((3, 5), value, np.float32)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": np.zeros(7, np.float16), "c": np.ones(2, np.int8)}, folder / "model-00002-of-00002.safetensors")
    return folder


def test_tensors_are_counted_without_the_files_headers(tmp_path: Path) -> None:
    assert tensor_bytes(str(_model(tmp_path / "m"))) == 3 * 5 * 4 + 7 * 2 + 2


def test_a_folder_without_tensors_has_none(tmp_path: Path) -> None:
    assert tensor_bytes(str(tmp_path)) == 0


def test_a_second_copy_of_the_weights_is_not_counted(tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    once = _tensor_bytes.__wrapped__(model)
    save_file({"a": np.zeros(9, np.float32)}, model / "consolidated.00.safetensors")
    assert _tensor_bytes.__wrapped__(model) == once
    only = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(only), encoding="utf-8")
    assert _tensor_bytes.__wrapped__(model) == 3 * 5 * 4
    (model / "model.safetensors.index.json").write_text("{", encoding="utf-8")
    assert _tensor_bytes.__wrapped__(model) == once


def test_a_model_in_mistrals_own_format_alone_is_counted(tmp_path: Path) -> None:
    save_file({"a": np.zeros(9, np.float32)}, tmp_path / "consolidated.safetensors")
    assert tensor_bytes(str(tmp_path)) == 36


def test_config_and_folder(tmp_path: Path) -> None:
    folder = _model(tmp_path / "m", hidden=64)
    assert local_folder(str(folder)) == folder
    assert model_config(str(folder)) == {"hidden_size": 64}


def test_equal_contents_have_equal_hashes_wherever_they_lie(tmp_path: Path) -> None:
    first, second = _model(tmp_path / "first"), _model(tmp_path / "second")
    (second / "README.md").write_text("notes do not change answers", encoding="utf-8")
    (second / "manifest.json").write_text('{"made_at": 1795887144}', encoding="utf-8")  # of a checkpoint made later
    assert content_hash(str(first)) == content_hash(str(second))
    assert len(content_hash(str(first))) == 16


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"hidden_size": 9}'),
        ("generation_config.json", "{}"),
        ("tokenizer.model", "pieces"),
        ("chat_template.jinja", "{{ messages }}"),
        ("merges.txt", "a b"),
    ],
)
def test_files_that_change_answers_change_the_hash(tmp_path: Path, name: str, content: str) -> None:
    before, after = _model(tmp_path / "before"), _model(tmp_path / "after")
    (after / name).write_text(content, encoding="utf-8")
    assert content_hash(str(before)) != content_hash(str(after))


def test_one_weight_changes_the_hash(tmp_path: Path) -> None:
    assert content_hash(str(_model(tmp_path / "a"))) != content_hash(str(_model(tmp_path / "b", value=1.0001)))


def test_large_files_are_hashed_by_themselves_whatever_their_order(tmp_path: Path) -> None:
    model, read = _model(tmp_path / "m"), list[int]()
    apart = hash_of_files(model, read.append, large_bytes=1)
    assert apart == hash_of_files(model, large_bytes=1) != hash_of_files(model) == content_hash(str(model))
    assert sum(read) == sum(file.stat().st_size for file in model.iterdir())
    save_file({"a": np.full((3, 5), 2.0, np.float32)}, model / "model-00001-of-00002.safetensors")
    assert hash_of_files(model, large_bytes=1) != apart


def test_the_states_of_files_show_an_edit_that_hides_its_time(tmp_path: Path) -> None:
    model = _model(tmp_path / "m")
    before, times = file_states(model), (model / "config.json").stat()
    (model / "config.json").write_text('{"hidden_size": 9}', encoding="utf-8")
    os.utime(model / "config.json", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_states(model) != before


def test_a_model_that_is_not_on_this_disk_is_hashed_by_its_id() -> None:
    first, second = content_hash("somebody/model-a"), content_hash("somebody/model-b")
    assert first != second
    assert len(first) == len(second) == 16


FP8 = {"weights": {"num_bits": 8, "type": "float"}, "input_activations": None}
INT4 = {"weights": {"num_bits": 4, "type": "int"}}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({}, ""),
        ({"quantization_config": None}, ""),
        ({"quantization_config": CONFIGS["gptq"]}, "gptq int4"),
        ({"quantization_config": CONFIGS["awq"]}, "awq int4"),
        ({"quantization_config": {"quant_method": "awq", "w_bit": 4}}, "awq int4"),
        ({"quantization_config": CONFIGS["compressed-tensors"]}, "compressed-tensors int4"),
        ({"compression_config": CONFIGS["compressed-tensors"]}, "compressed-tensors int4"),
        ({"text_config": {"quantization_config": CONFIGS["gptq"]}}, "gptq int4"),
        (
            {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": FP8, "b": INT4}}},
            "compressed-tensors fp8 and int4",
        ),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "modelopt NVFP4"),
        ({"quantization_config": {"bits": 3}}, "unnamed format int3"),
    ],
)
def test_the_format_of_a_quantized_checkpoint_is_read_from_its_configuration(
    config: dict[str, object], kind: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert quantized_format(str(tmp_path)) == kind


def test_modelopts_own_file_names_the_format_where_the_configuration_does_not(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    own = {"producer": {"name": "modelopt", "version": "0.29.0"}, "quantization": {"quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(own), encoding="utf-8")
    assert quantized_format(str(tmp_path)) == "modelopt FP8"


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_model_without_a_readable_configuration_has_no_known_format(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    assert quantized_format(str(tmp_path)) == "" == quantized_format("somebody/model-that-is-not-here")


def _weights(folder: Path, tensors: Mapping[str, Any], **config: object) -> str:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(dict(tensors), folder / "model.safetensors")
    return str(folder)


INTEGERS: dict[str, Any] = {
    "model.layers.0.mlp.up_proj.weight": np.ones((4, 8), np.int8),
    "norm.weight": np.ones(8, np.float16),
}


def test_integers_without_a_word_in_the_configuration_are_no_weights(tmp_path: Path) -> None:
    assert unreadable_format(_weights(tmp_path, INTEGERS)) == (
        "holds quantized weights (model.layers.0.mlp.up_proj.weight is I8), and its config.json has no "
        "quantization_config, so that they would be taken for weights as they are: bring back the config.json that was "
        "written with them"
    )


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_packed_checkpoint_whose_configuration_was_replaced_is_no_weights(kind: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", kind)
    assert unreadable_format(str(model)) == ""
    other = model.rename(tmp_path / "plain")
    (other / "config.json").write_text("{}", encoding="utf-8")
    assert unreadable_format(str(other)).startswith("holds quantized weights (model.layers.0.")


def test_what_is_no_matrix_may_be_integers(tmp_path: Path) -> None:
    tensors = {"position_ids": np.arange(8), "a.weight": np.ones((2, 2), np.float32), "b.bias": np.ones(3, np.int8)}
    assert unreadable_format(_weights(tmp_path, tensors)) == ""


def test_integers_that_the_configuration_explains_are_read_by_it(tmp_path: Path) -> None:
    assert unreadable_format(_weights(tmp_path, INTEGERS, quantization_config={"quant_method": "fp8"})) == ""


def test_gguf_is_no_checkpoint_as_a_file_and_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model-Q4_0.gguf").write_bytes(b"GGUF")
    for model in (tmp_path, tmp_path / "model-Q4_0.gguf"):
        assert unreadable_format(str(model)).startswith("is in GGUF format, which vLLM does not serve: give the model")
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    assert unreadable_format.__wrapped__(str(tmp_path)) == ""


@pytest.mark.parametrize("copied", [{}, {"quantization_config": {"group_size": 64, "bits": 4}}])
def test_mlx_is_told_by_its_own_entry(copied: dict[str, object], tmp_path: Path) -> None:
    model = _weights(tmp_path, {}, quantization={"group_size": 64, "bits": 4}, **copied)
    assert unreadable_format(model).startswith("is in MLX's format")


def test_a_model_that_is_not_on_this_disk_or_broken_is_left_to_vllm(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no header")
    assert unreadable_format("somebody/model") == "" == unreadable_format(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, ""),
        ({"temperature": 1.0, "top_k": 50, "max_new_tokens": 4}, ""),
        (
            {"repetition_penalty": 1.05},
            "sets repetition_penalty=1.05, which vLLM applies to every request, here as in deployment; model.flags.",
        ),
        (
            {"repetition_penalty": 1.1, "do_sample": True, "temperature": 0.6, "top_p": 0.95},
            "here as in deployment; it sets temperature=0.6, top_p=0.95, which vLLM takes for clients that send no",
        ),
    ],
)
def test_a_models_sampling_defaults_are_told(config: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(config), encoding="utf-8")
    sentence = defaults_in_words(str(tmp_path))
    assert message in sentence and bool(sentence) == bool(message)


def test_a_model_without_a_readable_file_has_no_sampling_defaults(tmp_path: Path) -> None:
    assert sampling_defaults(str(tmp_path)) == {} == sampling_defaults("somebody/model-that-is-not-here")
    (tmp_path / "generation_config.json").write_text("[", encoding="utf-8")
    assert sampling_defaults(str(tmp_path)) == {}
