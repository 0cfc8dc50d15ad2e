"""The format of a checkpoint's weights: whether they are quantized, and whether anybody could tell how."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from optimize.checkpoint.files import local_folder, model_config, tensors_of, weight_files

_QUANTIZATION = ("quantization_config", "compression_config")  # the second by early releases of compressed-tensors
_MODELOPT_FILE = "hf_quant_config.json"  # of ModelOpt up to 0.29, beside a config.json that says nothing
_PACKED = (".qweight", ".q_weight", ".weight_packed", ".weight.absmax", ".weight.quant_state", ".W_q")
"""Ends of the names by which GPTQ, AWQ, exl2, compressed-tensors, bitsandbytes and HQQ store their weights."""
_STORED = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "F8_E4M3", "F8_E5M2", "F4"})
"""Types of safetensors that no model is trained in: a matrix of weights of that type needs scales."""


def own_answers(model: str) -> str:
    """Whose answers the reference is where a model's own are it, in words."""
    return f"the {'published checkpoint' if quantized_format(model) else 'unquantized model'}'s own answers"


def quantized_format(model: str) -> str:
    """Format of a checkpoint that is quantized already, e.g. "awq int4"; empty for others, and where no file says so.

    Looks where vLLM looks: in config.json, there in the language model's part too, and in ModelOpt's own file.
    """
    node = next(_quantization_nodes(model), None)
    if node is None:
        return ""
    method = node.get("quant_method") or _part(node, "producer").get("name") or "unnamed format"
    return f"{method} {_precision(node)}".strip()


@cache
def unreadable_format(model: str) -> str:
    """Why nobody could load these weights as what they are, and the remedy; empty for others, or a model of a hub.

    Without an entry in its configuration that says how weights are quantized, vLLM takes stored integers for weights.
    """
    folder = Path(model)
    if folder.suffix.lower() == ".gguf" or (folder.is_dir() and _holds_gguf_alone(folder)):
        return (
            "is in GGUF format, which vLLM does not serve: give the model that it was made from, or write it anew with "
            "transformers, from_pretrained(folder, gguf_file=...).save_pretrained(...)"
        )
    if _is_mlx(model):
        return "is in MLX's format, which vLLM does not serve: give the model that it was made from"
    if not folder.is_dir() or next(_quantization_nodes(model), None) is not None:
        return ""
    packed = next((f"{name} is {kind}" for name, kind in _stored_types(folder) if _is_packed(name, kind)), "")
    return packed and (
        f"holds quantized weights ({packed}), and its config.json has no quantization_config, so that they would be "
        "taken for weights as they are: bring back the config.json that was written with them"
    )


def _is_mlx(model: str) -> bool:
    """Whether MLX wrote the configuration: its own entry, and a copy of it that names no method."""
    try:
        config = model_config(model) if Path(model).is_dir() else {}
    except (OSError, ValueError):
        return False
    own = _part(config, "quantization") if isinstance(config, Mapping) else {}
    return {"bits", "group_size"} <= own.keys() and "quant_method" not in _part(config, "quantization_config")


def _holds_gguf_alone(folder: Path) -> bool:
    return any(folder.glob("*.gguf")) and not any((*folder.glob("*.safetensors"), *folder.glob("*.bin")))


def _stored_types(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, type) of all tensors that may be matrices; those of other ends of names count as packed by them."""
    for name, (kind, shape) in tensors_of(weight_files(folder)).items():
        if len(shape) == 2 or name.endswith(_PACKED):
            yield name, kind


def _is_packed(name: str, kind: str) -> bool:
    return name.endswith(_PACKED) or (name.endswith(".weight") and kind in _STORED)


def _quantization_nodes(model: str) -> Iterator[Mapping[str, Any]]:
    try:
        config = model_config(model)
        separate = local_folder(model) / _MODELOPT_FILE
        modelopt = json.loads(separate.read_text(encoding="utf-8")) if separate.is_file() else None
    except (OSError, ValueError):  # not on this disk, or broken: vLLM will say so
        return
    if not isinstance(config, Mapping):
        return
    for level in (config, _part(config, "text_config")):
        yield from filter(None, (_part(level, key) for key in _QUANTIZATION))
    if isinstance(modelopt, Mapping):
        yield modelopt


def _part(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    return value if isinstance(value, Mapping) else {}


def _precision(node: Mapping[str, Any]) -> str:
    """Types of the quantized weights, e.g. "int4"; empty where the format does not state them."""
    if algorithm := node.get("quant_algo") or _part(node, "quantization").get("quant_algo"):
        return str(algorithm)
    groups = _part(node, "config_groups")
    weights = [_part(_part(groups, name), "weights") for name in groups]
    if types := dict.fromkeys(f"{_kind(w)}{w['num_bits']}" for w in weights if "num_bits" in w):
        return " and ".join(types)
    bits = node.get("bits") or node.get("w_bit")
    return f"int{bits}" if bits else ""


def _kind(weights: Mapping[str, Any]) -> str:
    return "fp" if weights.get("type") == "float" else "int"
