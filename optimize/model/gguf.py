"""The child process that makes a checkpoint of a GGUF file; reads its job as JSON from standard input.

transformers reads the file and dequantizes it. What it cannot know of the tokenizer, or gets wrong, is taken from the
file's own fields: which tokens begin and end a text, and how text is split before it is encoded.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.checkpoint import tensor_bytes
from optimize.entries import draft, publish
from optimize.model.manifest import write_manifest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PR_SET_PDEATHSIG = 1
_SMOLLM = "smollm"
_SPECIAL = {"bos_token": "bos_token_id", "eos_token": "eos_token_id", "pad_token": "padding_token_id"}


def convert(file: Path, folder: Path, dtype: str, facts: dict[str, Any]) -> None:
    """Make the checkpoint, in a folder of another name that is renamed when complete.

    Args:
        file: The GGUF file.
        folder: The checkpoint.
        dtype: Data type of its tensors.
        facts: What the manifest says of their origin.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    began, partial = time.monotonic(), draft(folder)
    fields = read_fields(file)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    _check_shape(model.config, fields)
    model.hf_quantizer = None  # it was dequantized
    del model.config.quantization_config
    ids = {name: fields[f"tokenizer.ggml.{key}"] for name, key in _SPECIAL.items() if f"tokenizer.ggml.{key}" in fields}
    _set_ids(model, ids)
    model.save_pretrained(partial)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    _mend(tokenizer, fields, ids)
    tokenizer.save_pretrained(partial)
    versions = {name: importlib.metadata.version(name) for name in ("gguf", "transformers", "torch")}
    write_manifest(
        partial,
        {
            **facts, "parameters": model.num_parameters(), "tensor_bytes": tensor_bytes(str(partial)),
            "versions": versions, "made_at": time.time(), "seconds": round(time.monotonic() - began, 2),
        },
    )  # fmt: skip
    publish(partial, folder)


def read_fields(file: Path) -> dict[str, Any]:
    """The fields of a GGUF file's header."""
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


def _check_shape(config: Any, fields: dict[str, Any]) -> None:
    """Refuse a model that was read with another rotation or norm than the file states: it would answer, only worse.

    Raises:
        ValueError: naming the field.
    """
    architecture = fields["general.architecture"]
    read = {
        "rope.freq_base": config.rope_parameters["rope_theta"],
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }
    for name, value in read.items():
        own = fields.get(f"{architecture}.{name}", value)
        if abs(own - value) > 1e-3 * abs(own):
            raise ValueError(f"{name} is {own} in the file, and {value} as transformers reads it")


def _set_ids(model: Any, ids: dict[str, int]) -> None:
    """Give the model and its generation the tokens that begin, end and fill a text."""
    for name, number in ids.items():
        setattr(model.config, f"{name}_id", number)
        setattr(model.generation_config, f"{name}_id", number)


def _mend(tokenizer: Any, fields: dict[str, Any], ids: dict[str, int]) -> None:
    """transformers 5.17 takes the first token of a text for its last one, and keeps the digits of a number together."""
    tokens = fields["tokenizer.ggml.tokens"]
    for name, number in ids.items():
        setattr(tokenizer, name, tokens[number])
    tokenizer.clean_up_tokenization_spaces = False
    if fields.get("tokenizer.ggml.pre") == _SMOLLM:
        _speak_smollm(tokenizer.backend_tokenizer)


def _speak_smollm(backend: Tokenizer) -> None:
    """Every digit is a token of its own, and the rest is split into words as by GPT-2: how SmolLM was trained."""
    from tokenizers.decoders import ByteLevel as Bytes
    from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence

    steps: list[PreTokenizer] = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    backend.pre_tokenizer = Sequence(steps)
    backend.decoder = Bytes()


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # whoever started this has the lock
    job = json.load(sys.stdin)
    convert(Path(job["file"]), Path(job["folder"]), job["dtype"], job["facts"])


if __name__ == "__main__":
    main()
