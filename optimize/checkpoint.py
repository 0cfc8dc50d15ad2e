"""Size, hash and configuration of a checkpoint, read from its files without loading them."""

from __future__ import annotations

import hashlib
import json
import struct
from functools import cache
from pathlib import Path


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
    return sum(_payload_bytes(file) for file in sorted(local_folder(model).glob("*.safetensors")))


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


def model_config(model: str) -> dict[str, object]:
    """The model's config.json."""
    loaded: dict[str, object] = json.loads((local_folder(model) / "config.json").read_text(encoding="utf-8"))
    return loaded
