"""How far a checkpoint's weights are from those it was made from, beside how far its bits let them be.

Rounding to the nearest of equally spaced values, `step` apart, leaves an error that is spread evenly over half a step
to either side, so its root mean square is step / sqrt(12) (Widrow and Kollar, "Quantization Noise", 2008, chapter 5).
With b bits over the range of the largest weight a of a row or group, a step is 2 a / (2^b - 1). Numbers of 4 exponent
and 3 mantissa bits (FP8, E4M3) are spaced 2^(floor(log2 |x|) - 3) apart, x being the weight scaled so that the largest
is 448, and 2^-9 below the smallest normal number.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimize.quantize.layers import layer_precisions

Array = NDArray[np.float32]
_NUMPY = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "I32": np.int32, "I64": np.int64}
_FP8_MAX, _FP8_MANTISSA, _FP8_SMALLEST = 448.0, 3, -6


@dataclass(frozen=True, slots=True)
class Deviation:
    """Of one layer's weights, relative to their root mean square.

    Attributes:
        rms: Root mean square of the difference.
        predicted: What the bits predict for it.
        worst_steps: Largest difference, in steps; half a step where nothing but rounding happened.
    """

    rms: float
    predicted: float
    worst_steps: float


def deviations(folder: Path, original: Path) -> dict[str, Deviation]:
    """Module -> deviation, for every quantized module of a checkpoint.

    Args:
        folder: The checkpoint.
        original: What it was made from.
    """
    quantized = {
        name: p.weights for name, p in layer_precisions(folder).items() if not p.weights.endswith(("16", "32"))
    }
    return {name: _deviation(folder, original, name, weights) for name, weights in quantized.items()}


def _deviation(folder: Path, original: Path, module: str, weights: str) -> Deviation:
    before = tensor(original, f"{module}.weight") * _smoothing(folder, original, module)
    error = dequantized(folder, module) - before
    steps = _steps(before, weights)
    scale = _rms(before)
    return Deviation(
        rms=_rms(error) / scale,
        predicted=_rms(steps) / math.sqrt(12) / scale,
        worst_steps=float(np.max(np.abs(error) / np.maximum(steps, 1e-12))),
    )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _steps(weights: Array, precision: str) -> Array:
    """The spacing of representable values at each weight."""
    bits = int(re.findall(r"\d+", precision)[0])
    grouped = re.search(r"groups of (\d+)", precision)
    width = int(grouped.group(1)) if grouped else weights.shape[1]
    rows = weights.reshape(weights.shape[0], -1, width)
    most = np.abs(rows).max(axis=2, keepdims=True)
    if precision.startswith("fp8"):
        scaled = np.abs(rows) / most * _FP8_MAX
        exponents = np.maximum(np.floor(np.log2(np.maximum(scaled, 1e-30))), _FP8_SMALLEST)
        spacing: Array = np.exp2(exponents - _FP8_MANTISSA) * most / _FP8_MAX
        return spacing.reshape(weights.shape)
    return np.broadcast_to(2 * most / (2**bits - 1), rows.shape).reshape(weights.shape)


def _smoothing(folder: Path, original: Path, module: str) -> Array:
    """By what a column was multiplied before it was quantized: SmoothQuant divides the norm before the layer by it."""
    norm = {"q_proj": "input", "k_proj": "input", "v_proj": "input"} | dict.fromkeys(
        ("gate_proj", "up_proj"), "post_attention"
    )
    block, _, last = module.rpartition(".")
    if last not in norm:
        return np.ones(1, np.float32)
    name = f"{block.rpartition('.')[0]}.{norm[last]}_layernorm.weight"
    factor: Array = tensor(original, name) / tensor(folder, name)
    return factor


def dequantized(folder: Path, module: str) -> Array:
    """The weights of a quantized layer as numbers."""
    scale = tensor(folder, f"{module}.weight_scale")
    if _has(folder, f"{module}.weight_packed"):
        whole = _unpacked(tensor(folder, f"{module}.weight_packed", raw=True))
        whole = whole[:, : int(tensor(folder, f"{module}.weight_shape", raw=True)[1])]
    else:
        whole = tensor(folder, f"{module}.weight")
    width = whole.shape[1] // scale.shape[1]
    values: Array = whole * np.repeat(scale, width, axis=1)
    return values


def _unpacked(packed: NDArray[np.int32]) -> Array:
    """Eight 4-bit numbers of every 32-bit one, lowest bits first, stored with an offset of 8."""
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    nibbles = (packed.view(np.uint32)[:, :, None] >> shifts) & 0xF
    return nibbles.reshape(packed.shape[0], -1).astype(np.float32) - 8


def _has(folder: Path, name: str) -> bool:
    return any(name in _header(file)[0] for file in folder.glob("*.safetensors"))


def tensor(folder: Path, name: str, raw: bool = False) -> Any:
    """One tensor of a checkpoint as float32; `raw` keeps integers as they are.

    Raises:
        KeyError: there is none of this name.
    """
    for file in sorted(folder.glob("*.safetensors")):
        header, start = _header(file)
        if name in header:
            entry = header[name]
            begin, end = entry["data_offsets"]
            with file.open("rb") as stream:
                stream.seek(start + begin)
                values = _decoded(stream.read(end - begin), entry["dtype"]).reshape(entry["shape"])
            return values if raw else values.astype(np.float32)
    raise KeyError(name)


def _header(file: Path) -> tuple[dict[str, Any], int]:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return json.loads(stream.read(length)), 8 + length


def _decoded(data: bytes, dtype: str) -> NDArray[Any]:
    if dtype == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E4M3":
        return _fp8_values()[np.frombuffer(data, np.uint8)]
    return np.frombuffer(data, _NUMPY[dtype])


def _fp8_values() -> Array:
    """The value of each of the 256 codes of E4M3; its two not-a-numbers are left at 480."""
    codes = np.arange(256)
    sign, exponent, mantissa = np.where(codes & 0x80, -1.0, 1.0), (codes >> 3) & 0xF, codes & 7
    normal = (1 + mantissa / 8) * np.exp2(exponent - 7.0)
    subnormal = mantissa / 8 * np.exp2(-6.0)
    values: Array = (sign * np.where(exponent == 0, subnormal, normal)).astype(np.float32)
    return values
