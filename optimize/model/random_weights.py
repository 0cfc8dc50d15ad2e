"""Models with random weights: the speed and memory of a shape whose weights cannot be downloaded.

Any architecture that transformers has. The answers of such a model mean nothing, so quality is refused
(`optimize.plan`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optimize.checkpoint import local_folder
from optimize.config.schema import Model, RandomWeights
from optimize.entries import draft, publish
from optimize.errors import ConfigError
from optimize.files import locked, path_part
from optimize.model.folder import is_missing
from optimize.model.manifest import write_manifest

_SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size",
)  # fmt: skip
_DTYPES = ("float16", "bfloat16", "float32")
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
Write = Callable[[dict[str, Any], Path], None]


def materialized(model: Model, cache_folder: Path, say: Callable[[str], None], write: Write | None = None) -> Model:
    """The model with `path` set to its folder; random weights are made unless the cache holds them complete.

    Args:
        model: The model; one with weights of its own is returned as it is.
        cache_folder: Root of the cache.
        say: Called with a line for people: what is being made, and what was damaged.
        write: As `optimize.model.write_weights.write_model`, which runs in a child process where it is None.

    Raises:
        ConfigError: a model that cannot be made.
    """
    if model.random is None:
        return model
    _check(model.random)
    if model.random.dummy and model.flags.get("load_format") != "dummy":
        raise ConfigError(
            "model.random.dummy=true writes no weights: vLLM makes them up, +model.flags.load_format=dummy"
        )
    folder = cache_folder.resolve() / "checkpoints" / f"{path_part(model.name)}-{_digest(model.random)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / "lock"):
        if is_missing(folder, say):
            whose = "whose weights vLLM makes up" if model.random.dummy else "of random weights"
            say(f"making {model.name}: a {model.random.config['model_type']} {whose}")
            _make(model.random, folder, write or _in_a_child)
    return dataclasses.replace(model, path=str(folder))


def _check(random: RandomWeights) -> None:
    config = random.config
    if not isinstance(config.get("model_type"), str):
        raise ConfigError("model.random.config.model_type is missing: give one that transformers has, e.g. llama")
    for name in _SIZES:
        value = config.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"model.random.config.{name} must be a whole number from 1, got {value!r}")
    if config.get("dtype", _DTYPES[0]) not in _DTYPES:
        raise ConfigError(f"model.random.config.dtype={config['dtype']} must be one of {', '.join(_DTYPES)}")
    if not (Path(random.tokenizer) / "tokenizer.json").is_file():
        raise ConfigError(f"model.random.tokenizer={random.tokenizer} holds no tokenizer.json: give a model's folder")
    vocabulary = json.loads((Path(random.tokenizer) / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    if len(vocabulary) > (config.get("vocab_size") or len(vocabulary)):
        raise ConfigError(
            f"model.random.config.vocab_size={config['vocab_size']} is less than the tokenizer's "
            f"{len(vocabulary)}: raise it"
        )


def _digest(random: RandomWeights) -> str:
    fields = {name: value for name, value in dataclasses.asdict(random).items() if name != "dummy" or value}
    raw = json.dumps(fields, sort_keys=True).encode()
    tokenizer = (local_folder(random.tokenizer) / "tokenizer.json").read_bytes()
    return hashlib.sha256(raw + tokenizer).hexdigest()[:12]


def _make(random: RandomWeights, folder: Path, write: Write) -> None:
    """Write the model into a folder of another name that is renamed when complete."""
    partial, tokenizer = draft(folder), Path(random.tokenizer)
    job = {**dataclasses.asdict(random), "config": {**random.config, **_special_tokens(tokenizer)}}
    write(job, partial)
    for name in _TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, partial / name)
    write_manifest(partial, {"random": dataclasses.asdict(random)})
    publish(partial, folder)


def _special_tokens(tokenizer: Path) -> Mapping[str, Any]:
    """Ids of special tokens, which must be the same in a model's configuration and its tokenizer."""
    config = json.loads((tokenizer / "config.json").read_text(encoding="utf-8"))
    return {name: config[name] for name in _SPECIAL if name in config}


def _in_a_child(job: dict[str, Any], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "optimize.model.write_weights"],
        input=json.dumps({**job, "folder": str(folder)}), text=True, capture_output=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OPTIMIZE_PARENT": str(os.getpid())},
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
        raise ConfigError(f"model.random.config gives no model: {last}")
