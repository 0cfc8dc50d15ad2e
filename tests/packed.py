"""The demo model in 4 bits, packed by hand as GPTQ, AWQ and compressed-tensors checkpoints are.

All three hold the same integers and scales, so that engines that read them correctly give the same answers. A weight
is `scale * (integer - 8)`, with one scale for each output and group of 128 inputs; eight integers share an int32, the
first of them in its lowest bits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
GROUP, ZERO, PER_INT = 128, 8, 8
_AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
"""Output that each of an int32's four-bit fields holds, counted from the first of its eight."""
_BASIC = {"bits": 4, "group_size": GROUP}
_WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP}
CONFIGS: dict[str, dict[str, Any]] = {
    "gptq": {"quant_method": "gptq", **_BASIC, "desc_act": False, "sym": True, "checkpoint_format": "gptq"},
    "awq": {
        "quant_method": "awq", **_BASIC, "zero_point": True, "version": "gemm", "modules_to_not_convert": ["lm_head"],
    },
    "compressed-tensors": {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": _WEIGHTS, "input_activations": None}},
    },
}  # fmt: skip
"""Format -> its `quantization_config`."""
Array = NDArray[Any]
Tensors = dict[str, Array]


def quantized(weight: Array) -> tuple[Array, Array]:
    """Integers from 0 to 15, [outputs, inputs], and their scales, [outputs, groups]."""
    groups = weight.astype(np.float32).reshape(len(weight), -1, GROUP)
    scales = (np.abs(groups).max(axis=2) / 7).astype(np.float16)
    integers = np.rint(groups / scales[..., None].astype(np.float32)).clip(-8, 7) + ZERO
    return integers.astype(np.uint32).reshape(weight.shape), scales


def packed(integers: Array, order: list[int] | None = None) -> Array:
    """Eight neighbours of the last axis in each int32, the first lowest, or in the order given."""
    eights = integers.reshape(*integers.shape[:-1], -1, PER_INT)[..., order or list(range(PER_INT))]
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    fields: Array = np.bitwise_or.reduce(eights << shifts, axis=-1)
    return fields.view(np.int32)


def _gptq(integers: Array, scales: Array) -> Tensors:
    zeros = np.full(scales.T.shape, ZERO - 1, np.uint32)  # the format stores one less than the zero point
    index = np.arange(integers.shape[1], dtype=np.int32) // GROUP
    weights = np.ascontiguousarray(packed(integers).T)
    return {"qweight": weights, "qzeros": packed(zeros), "scales": np.ascontiguousarray(scales.T), "g_idx": index}


def _awq(integers: Array, scales: Array) -> Tensors:
    zeros = np.full(scales.T.shape, ZERO, np.uint32)
    weights = packed(np.ascontiguousarray(integers.T), _AWQ_ORDER)
    return {"qweight": weights, "qzeros": packed(zeros, _AWQ_ORDER), "scales": np.ascontiguousarray(scales.T)}


def _compressed_tensors(integers: Array, scales: Array) -> Tensors:
    shape = np.array(integers.shape, np.int64)
    return {"weight_packed": packed(integers), "weight_scale": scales, "weight_shape": shape}


_PACKERS: dict[str, Callable[[Array, Array], Tensors]] = {
    "gptq": _gptq, "awq": _awq, "compressed-tensors": _compressed_tensors,
}  # fmt: skip


def described(folder: Path, **config: object) -> Path:
    """The demo model's configuration and tokenizer with more in its config.json, without weights."""
    folder.mkdir(parents=True)
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(ROOT / "demo/model" / name, folder / name)
    plain = json.loads((ROOT / "demo/model/config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**plain, **config}), encoding="utf-8")
    return folder


def checkpoint(folder: Path, kind: str) -> Path:
    """A checkpoint of the demo model in one of the formats of CONFIGS."""
    tensors: Tensors = {}
    for name, tensor in load_file(ROOT / "demo/model/model.safetensors").items():
        module = name.removesuffix(".weight")
        if module.endswith("_proj"):
            parts = _PACKERS[kind](*quantized(tensor))
            tensors |= {f"{module}.{part}": values for part, values in parts.items()}
        else:
            tensors[name] = tensor
    save_file(tensors, described(folder, quantization_config=CONFIGS[kind]) / "model.safetensors", {"format": "pt"})
    return folder
