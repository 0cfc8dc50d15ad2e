"""A model of any shape, made on the spot, and refused where its answers would count."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.memory import parameters
from benchmarks.weight_deviation import tensor
from optimize.cache.store import evict, foreign
from optimize.checkpoint import content_hash, hash_of_files, tensor_bytes
from optimize.config.schema import Model, RandomWeights
from optimize.entries import MARK, is_marked, release
from optimize.errors import ConfigError, OptimizeError
from optimize.model.folder import keep
from optimize.model.manifest import damage, write_manifest
from optimize.model.random_weights import materialized as made_in_a_child
from optimize.model.write_weights import write_model
from optimize.quantize.layers import stored_tensors
from tests.conftest import ROOT, Run
from tests.shapes import SHAPES

SHAPE = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 640,
    "tie_word_embeddings": False,
}  # fmt: skip


def model(**changes: object) -> Model:
    return Model("tiny-1.5", "made", random=RandomWeights({**SHAPE, **changes}, str(ROOT / "demo/model")))


def materialized(model: Model, cache: Path, say: Callable[[str], None]) -> Model:
    """Made in this process, which imports torch once."""
    return made_in_a_child(model, cache, say, write_model)


def test_it_has_the_weights_of_its_shape(tmp_path: Path) -> None:
    message: list[str] = []
    checkpoint = made_in_a_child(model(), tmp_path, message.append)
    folder = Path(checkpoint.path)
    weights = 2 * 640 * 32 + 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32)
    assert parameters(SHAPE) == weights
    assert tensor_bytes(checkpoint.path) == 2 * weights
    assert tensor(folder, "model.layers.1.mlp.down_proj.weight").shape == (32, 48)
    assert 0.015 < tensor(folder, "lm_head.weight").std() < 0.025
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["vocab_size"], config["eos_token_id"], config["architectures"]) == (640, 2, ["LlamaForCausalLM"])
    assert message == ["making tiny-1.5: a llama of random weights"]
    here = materialized(model(), tmp_path / "here", lambda _: None)
    assert content_hash(here.path) == content_hash(checkpoint.path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("qwen3", "model.layers.1.self_attn.q_norm.weight"),
        ("gemma3", "model.layers.0.pre_feedforward_layernorm.weight"),
        ("opt", "model.decoder.layers.1.fc1.bias"),
        ("qwen3_moe", "model.layers.1.mlp.experts.3.down_proj.weight"),
    ],
)
def test_an_architecture_has_the_tensors_of_its_published_checkpoints(kind: str, name: str, tmp_path: Path) -> None:
    random = RandomWeights(SHAPES[kind], str(ROOT / "demo/model"))
    folder = Path(materialized(Model(kind, "", random=random), tmp_path, lambda _: None).path)
    assert name in stored_tensors(folder)


def test_a_dummy_has_a_configuration_and_no_weights(tmp_path: Path) -> None:
    message: list[str] = []
    random = RandomWeights({**SHAPE, "num_hidden_layers": 32}, str(ROOT / "demo/model"), dummy=True)
    dummy = Model("dummy", "made", {"load_format": "dummy"}, random)
    folder = Path(materialized(dummy, tmp_path, message.append).path)
    assert not list(folder.glob("*.safetensors")) and damage(folder) is None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["num_hidden_layers"], config["architectures"], config["eos_token_id"]) == (
        32,
        ["LlamaForCausalLM"],
        2,
    )
    assert message == ["making dummy: a llama whose weights vLLM makes up"]
    with pytest.raises(ConfigError, match=r"\+model\.flags\.load_format=dummy"):
        materialized(dataclasses.replace(dummy, flags={}), tmp_path, message.append)


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "F16"), ("bfloat16", "BF16"), ("float32", "F32")])
def test_weights_are_stored_in_the_data_type_asked_for(dtype: str, stored: str, tmp_path: Path) -> None:
    folder = Path(materialized(model(dtype=dtype), tmp_path, lambda _: None).path)
    assert {tensor.dtype for tensor in stored_tensors(folder).values()} == {stored}


def test_other_data_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dtype=int8 must be one of float16, bfloat16, float32"):
        materialized(model(dtype="int8"), tmp_path, lambda _: None)


def test_a_model_is_made_once_and_again_after_damage(tmp_path: Path) -> None:
    message: list[str] = []
    folder = Path(materialized(model(), tmp_path, message.append).path)
    assert materialized(model(), tmp_path, message.append).path == str(folder)
    assert len(message) == 1
    os.truncate(folder / "model.safetensors", 100)
    assert damage(folder) is not None
    materialized(model(), tmp_path, message.append)
    assert damage(folder) is None and len(message) == 3
    assert "is damaged (model.safetensors has 100 bytes" in message[1]


def test_a_folder_of_somebody_else_is_neither_served_nor_replaced(tmp_path: Path) -> None:
    folder = Path(materialized(model(), tmp_path, lambda _: None).path)
    (folder / "my-notes.txt").touch()
    os.truncate(folder / "model.safetensors", 100)
    with pytest.raises(OptimizeError, match="is damaged and holds files that are not this project's: move it away"):
        materialized(model(), tmp_path, lambda _: None)
    assert (folder / "my-notes.txt").is_file()


def test_a_link_to_a_damaged_model_is_not_followed(tmp_path: Path) -> None:
    folder = Path(materialized(model(), tmp_path, lambda _: None).path)
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    (elsewhere / MARK).unlink()
    assert materialized(model(), tmp_path, lambda _: pytest.fail("made again")).path == str(folder)
    assert not (elsewhere / MARK).exists()
    os.truncate(elsewhere / "model.safetensors", 100)
    with pytest.raises(OptimizeError, match="is damaged and holds files that are not this project's"):
        materialized(model(), tmp_path, lambda _: None)
    assert (elsewhere / "model.safetensors").is_file()


def test_a_model_of_an_earlier_version_is_marked_at_its_next_use(tmp_path: Path) -> None:
    folder = Path(materialized(model(), tmp_path, lambda _: None).path)
    (folder / MARK).unlink()
    write_manifest(folder, {"random": {}, "parameters": 1})
    materialized(model(), tmp_path, lambda _: pytest.fail("made again"))
    assert is_marked(folder)


def test_a_checkpoint_that_a_bundle_serves_is_kept_and_is_the_same_model(tmp_path: Path) -> None:
    folder = Path(materialized(model(), tmp_path, lambda _: None).path)
    before = hash_of_files(folder)
    keep(folder, "the bundle in /srv/chat serves this checkpoint")
    release(folder)
    assert evict(tmp_path, 0).removed == [] and foreign(tmp_path) == [folder]
    assert "the bundle in /srv/chat" in (folder / "KEEP").read_text(encoding="utf-8")
    assert hash_of_files(folder) == before and damage(folder) is None
    (folder / "KEEP").unlink()
    assert [entry.path for entry in evict(tmp_path, 0).removed] == [folder]


def test_a_model_of_the_users_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    keep(tmp_path, "a bundle serves it")
    keep(tmp_path / "org" / "name", "a bundle serves it")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["../../escape", "org/name", "..", "n" * 300])
def test_a_models_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    path = materialized(dataclasses.replace(model(), name=name), tmp_path, lambda _: None).path
    assert Path(path).parent == tmp_path / "checkpoints"


def test_another_shape_or_seed_is_another_model(tmp_path: Path) -> None:
    first = materialized(model(), tmp_path, lambda _: None)
    other = model()
    assert other.random is not None
    other.random.seed = 1
    paths = {first.path, materialized(other, tmp_path, lambda _: None).path}
    paths.add(materialized(model(tie_word_embeddings=True), tmp_path, lambda _: None).path)
    assert len(paths) == 3


def test_a_model_with_weights_of_its_own_is_left_alone(tmp_path: Path) -> None:
    plain = Model("m", "some/where")
    assert materialized(plain, tmp_path, lambda _: None) is plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": None}, "model_type is missing: give one that transformers has"),
        ({"hidden_size": 0}, "hidden_size must be a whole number from 1, got 0"),
        ({"vocab_size": 100}, "vocab_size=100 is less than the tokenizer's 512"),
    ],
)
def test_shapes_that_cannot_be_made(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        materialized(model(**changes), tmp_path, lambda _: None)


def test_what_transformers_refuses_is_one_line(tmp_path: Path) -> None:
    wrong = model(num_attention_heads=5, head_dim=None)
    with pytest.raises(ConfigError, match="gives no model: .*hidden size .*32.* heads") as refusal:
        made_in_a_child(wrong, tmp_path, lambda _: None)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    wrong = model()
    assert wrong.random is not None
    wrong = dataclasses.replace(wrong, random=dataclasses.replace(wrong.random, tokenizer=str(tmp_path)))
    with pytest.raises(ConfigError, match="holds no tokenizer.json"):
        materialized(wrong, tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["objectives=[qps,p99_latency_s,memory_bytes,bleu]"],
            "objectives.bleu: model llama_1b_random has random weights",
        ),
        (
            ["objectives=[qps,p99_latency_s,memory_bytes]", "+metrics.bleu={_target_: objectives.quality.Bleu}"],
            "constraints.bleu: model llama_1b_random has random weights",
        ),
    ],
)
def test_quality_is_refused_before_anything_is_made(
    optimize: Run, tmp_path: Path, overrides: list[str], message: str
) -> None:
    out = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    done = optimize(["+study=chat", "model=llama_1b_random", *overrides, *out])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "cache/checkpoints").exists()
