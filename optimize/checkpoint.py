"""Size, hash, format and configuration of a checkpoint, read from its files without loading them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_QUANTIZATION = ("quantization_config", "compression_config")  # the second by early releases of compressed-tensors
_INDEX_FILE, _SECOND_COPY = "model.safetensors.index.json", "consolidated"
_MODELOPT_FILE = "hf_quant_config.json"  # of ModelOpt up to 0.29, beside a config.json that says nothing


@cache
def local_folder(model: str) -> Path:
    """Folder of a model's files: the path itself, or where Hugging Face keeps its snapshot."""
    path = Path(model)
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, local_files_only=True))


@cache
def tensor_bytes(model: str) -> int:
    """Bytes of all tensors in a checkpoint's safetensors files, headers left out.

    Counted on disk because kernels repack weights: on CPU, oneDNN moves FP16 matrices out of the module, where a sum
    over its parameters misses them.
    """
    return sum(_payload_bytes(file) for file in weight_files(local_folder(model)))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that vLLM loads: those that the index names, where there is one.

    Without an index, all but a second copy of the weights in Mistral's own format, which its repositories hold too.
    """
    files = sorted(folder.glob("*.safetensors"))
    try:
        index = json.loads((folder / _INDEX_FILE).read_text(encoding="utf-8"))
        indexed = set(index["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        indexed = {file.name for file in files if not file.name.startswith(_SECOND_COPY)}
    return [file for file in files if file.name in indexed] or files


def _payload_bytes(file: Path) -> int:
    """Size of one safetensors file less its header: 8 bytes of length, then that many of JSON."""
    with file.open("rb") as stream:
        (header,) = struct.unpack("<Q", stream.read(8))
    return file.stat().st_size - 8 - int(header)


@cache
def content_hash(model: str) -> str:
    """Sixteen hexadecimal digits over a local model's files; the id itself for one not on this disk."""
    path = Path(model)
    if not path.is_dir():
        return hashlib.sha256(model.encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    for file in sorted(
        p for p in path.iterdir() if p.suffix in {".json", ".safetensors", ".bin", ".model", ".jinja", ".txt"}
    ):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def own_answers(model: str) -> str:
    """Whose answers the reference is where a model's own are it, in words."""
    return f"the {'published checkpoint' if quantized_format(model) else 'unquantized model'}'s own answers"


def model_config(model: str) -> dict[str, object]:
    """The model's config.json."""
    loaded: dict[str, object] = json.loads((local_folder(model) / "config.json").read_text(encoding="utf-8"))
    return loaded


def quantized_format(model: str) -> str:
    """Format of a checkpoint that is quantized already, e.g. "awq int4"; empty for others, and where no file says so.

    Looks where vLLM looks: in config.json, there in the language model's part too, and in ModelOpt's own file.
    """
    node = next(_quantization_nodes(model), None)
    if node is None:
        return ""
    method = node.get("quant_method") or _part(node, "producer").get("name") or "unnamed format"
    return f"{method} {_precision(node)}".strip()


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
