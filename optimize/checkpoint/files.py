"""The files of a checkpoint: where they lie, what vLLM loads of them, their configuration, size and tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

_INDEX_FILE, _SECOND_COPY = "model.safetensors.index.json", "consolidated"
Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> (data type as safetensors writes it, shape)."""


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
        return file.stat().st_size - 8 - _header_bytes(stream.read(8))


def _header_bytes(length: bytes) -> int:
    return int(struct.unpack("<Q", length)[0])


def tensors_of(files: Iterable[Path]) -> Tensors:
    """The tensors of safetensors files, from their headers; a file that is none has none."""
    tensors: Tensors = {}
    for file in files:
        try:
            with file.open("rb") as stream:
                header: dict[str, Any] = json.loads(stream.read(_header_bytes(stream.read(8))))
            tensors |= {n: (t["dtype"], tuple(t["shape"])) for n, t in header.items() if n != "__metadata__"}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, MemoryError, OverflowError):
            continue
    return tensors


def model_config(model: str) -> dict[str, object]:
    """The model's config.json."""
    loaded: dict[str, object] = json.loads((local_folder(model) / "config.json").read_text(encoding="utf-8"))
    return loaded
