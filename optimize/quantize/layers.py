"""The precision of each layer of a checkpoint, read off its tensors rather than from its recipe."""

from __future__ import annotations

import json
import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.checkpoint import weight_files

_FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_WEIGHTS = (".weight_packed", ".weight")
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Precision:
    """How one layer computes.

    Attributes:
        weights: e.g. "int8 per channel", "int4 in groups of 128", "float16".
        activations: "static int8", "dynamic int8"; "float" where they are not quantized.
    """

    weights: str
    activations: str


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor as it is stored: type (safetensors' name), shape and bytes."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Name -> tensor, from the headers of a checkpoint's safetensors files."""
    tensors: dict[str, Stored] = {}
    for file in weight_files(folder):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[name] = Stored(entry["dtype"], tuple(entry["shape"]), end - begin)
    return tensors


def layer_precisions(folder: Path) -> dict[str, Precision]:
    """Module -> its precision, for every module with a weight matrix: linear layers, embeddings, output head."""
    tensors = stored_tensors(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    groups = (config.get("quantization_config") or {}).get("config_groups") or {}
    return {name: _precision(name, tensors, groups) for name in _modules(tensors)}


def _modules(tensors: Mapping[str, Stored]) -> Iterator[str]:
    for name, tensor in tensors.items():
        for suffix in _WEIGHTS:
            if name.endswith(suffix) and len(tensor.shape) == _MATRIX:
                yield name.removesuffix(suffix)
                break


def _precision(module: str, tensors: Mapping[str, Stored], groups: Mapping[str, Any]) -> Precision:
    scale = tensors.get(f"{module}.weight_scale")
    if scale is None:
        dtype = tensors[f"{module}.weight"].dtype
        return Precision(_FLOATS.get(dtype, dtype), "float")
    group = _group_of(module, groups)
    activations = group.get("input_activations")
    if activations is None:
        return Precision(_weights(group["weights"]), "float")
    # A scale in the checkpoint makes it static: without one the engine computes scales as it runs.
    when = "static" if f"{module}.input_scale" in tensors else "dynamic"
    return Precision(_weights(group["weights"]), f"{when} {_type(activations)}")


def _group_of(module: str, groups: Mapping[str, Any]) -> Mapping[str, Any]:
    """The group whose targets name the module itself, else one that names its class, such as Linear."""
    by_class: Mapping[str, Any] = {}
    for group in groups.values():
        for target in group["targets"]:
            if target == module or (target.startswith("re:") and re.match(target.removeprefix("re:"), module)):
                named: Mapping[str, Any] = group
                return named
            if not target.startswith("re:") and "." not in target:
                by_class = group
    return by_class


def _weights(settings: Mapping[str, Any]) -> str:
    per = settings.get("strategy")
    return f"{_type(settings)} " + (f"in groups of {settings['group_size']}" if per == "group" else f"per {per}")


def _type(settings: Mapping[str, Any]) -> str:
    return f"{'fp' if settings['type'] == 'float' else settings['type']}{settings['num_bits']}"


def summary(precisions: Mapping[str, Precision]) -> list[str]:
    """One line per kind of layer: those that differ only in the number of their block are one kind."""
    kinds: dict[tuple[str, Precision], int] = defaultdict(int)
    for module, precision in precisions.items():
        kinds[re.sub(r"\.\d+\.", ".*.", module), precision] += 1
    merged: dict[Precision, list[str]] = defaultdict(list)
    for (kind, precision), number in kinds.items():
        merged[precision].append(f"{kind} x{number}" if number > 1 else kind)
    return [
        f"weights {precision.weights}, activations {precision.activations}: {', '.join(names)}"
        for precision, names in merged.items()
    ]
