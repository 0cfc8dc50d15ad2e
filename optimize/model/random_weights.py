"""Models with random weights: the speed and memory of a shape whose weights cannot be downloaded.

Only for Llama-shaped models. The answers of such a model mean nothing, so quality is refused (`optimize.plan`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from optimize.checkpoint import local_folder
from optimize.config.schema import Model, RandomWeights
from optimize.entries import draft, publish
from optimize.errors import ConfigError
from optimize.files import locked, path_part
from optimize.model.folder import is_missing
from optimize.model.manifest import write_manifest

_NEEDED = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size",
)  # fmt: skip
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
_DTYPES = ("float16", "bfloat16")
Shapes = dict[str, tuple[int, ...]]


def materialized(model: Model, cache_folder: Path, say: Callable[[str], None]) -> Model:
    """The model with `path` set to its folder; random weights are made unless the cache holds them complete.

    Raises:
        ConfigError: a shape that cannot be made.
    """
    if model.random is None:
        return model
    _check(model.random)
    folder = cache_folder.resolve() / "checkpoints" / f"{path_part(model.name)}-{_digest(model.random)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / "lock"):
        if is_missing(folder, say):
            say(f"making {model.name}: {parameters(model.random.config) / 1e9:.2f} billion random weights")
            _make(model.random, folder)
    return dataclasses.replace(model, path=str(folder))


def _check(random: RandomWeights) -> None:
    if random.config.get("model_type") != "llama":
        raise ConfigError(
            f"model.random.config.model_type must be llama, got {random.config.get('model_type')!r}: for other "
            "shapes, give a folder with weights as model.path"
        )
    for name in _NEEDED:
        value = random.config.get(name)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"model.random.config.{name} must be a whole number from 1, got {value!r}")
    if random.config.get("dtype", _DTYPES[0]) not in _DTYPES:
        raise ConfigError(f"model.random.config.dtype must be one of {', '.join(_DTYPES)}: weights have 16 bits")
    if not (Path(random.tokenizer) / "tokenizer.json").is_file():
        raise ConfigError(f"model.random.tokenizer={random.tokenizer} holds no tokenizer.json: give a model's folder")
    vocabulary = json.loads((Path(random.tokenizer) / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    if len(vocabulary) > random.config["vocab_size"]:
        raise ConfigError(
            f"model.random.config.vocab_size={random.config['vocab_size']} is less than the tokenizer's "
            f"{len(vocabulary)}: raise it"
        )


def _digest(random: RandomWeights) -> str:
    raw = json.dumps(dataclasses.asdict(random), sort_keys=True).encode()
    tokenizer = (local_folder(random.tokenizer) / "tokenizer.json").read_bytes()
    return hashlib.sha256(raw + tokenizer).hexdigest()[:12]


def _make(random: RandomWeights, folder: Path) -> None:
    """Write the model into a folder of another name that is renamed when complete."""
    partial = draft(folder)
    files = dict(_write_weights(random, partial))
    total = 2 * parameters(random.config)
    _write_json(partial / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": files})
    _write_json(partial / "config.json", {**random.config, **_special_tokens(Path(random.tokenizer))})
    for name in _TOKENIZER_FILES:
        if (Path(random.tokenizer) / name).is_file():
            shutil.copyfile(Path(random.tokenizer) / name, partial / name)
    write_manifest(partial, {"random": dataclasses.asdict(random), "parameters": parameters(random.config)})
    publish(partial, folder)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _special_tokens(tokenizer: Path) -> dict[str, Any]:
    """Ids of special tokens, which must be the same in a model's configuration and its tokenizer."""
    config = json.loads((tokenizer / "config.json").read_text(encoding="utf-8"))
    return {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if name in config}


def _write_weights(random: RandomWeights, folder: Path) -> Iterator[tuple[str, str]]:
    """Write one file per decoder layer and one for the rest; yields (tensor, file)."""
    import numpy as np
    from safetensors import TensorSpec, serialize_file

    rng, dtype = np.random.default_rng(random.seed), str(random.config.get("dtype", _DTYPES[0]))
    for number, part in enumerate(_parts(random.config)):
        file = f"model-{number:05d}.safetensors"
        tensors: dict[str, Any] = {}
        for name, shape in part.items():
            if len(shape) == 1:
                values = np.ones(shape, np.float32)  # a norm's
            else:
                values = rng.standard_normal(shape, np.float32)
                values *= random.std
            tensors[name] = _in_16_bits(values, dtype)
            yield name, file
        specs = {
            name: TensorSpec(dtype=dtype, shape=t.shape, data_ptr=t.ctypes.data, data_len=t.nbytes)
            for name, t in tensors.items()
        }
        serialize_file(specs, folder / file, metadata={"format": "pt"})


def _in_16_bits(values: Any, dtype: str) -> Any:
    """The bits of float32 values in another type; numpy has no bfloat16, which is the upper half of a float32."""
    import numpy as np

    return (values.view(np.uint32) + 0x8000 >> 16).astype(np.uint16) if dtype == "bfloat16" else values.astype(dtype)


def _parts(config: Mapping[str, Any]) -> Iterator[Shapes]:
    """Tensor names and shapes of a Llama, file by file."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries, keys = (config[n] * config["head_dim"] for n in ("num_attention_heads", "num_key_value_heads"))
    for layer in range(config["num_hidden_layers"]):
        shapes = {
            "self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden), "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner),
            "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
        }  # fmt: skip
        yield {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}
    ends: Shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    yield ends if config.get("tie_word_embeddings") else {**ends, "lm_head.weight": (vocabulary, hidden)}


def parameters(config: Mapping[str, Any]) -> int:
    """Number of weights of a shape."""
    total = 0
    for part in _parts(config):
        for shape in part.values():
            total += shape[0] * (shape[1] if len(shape) > 1 else 1)
    return total
