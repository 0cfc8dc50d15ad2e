"""The files of a checkpoint: where they lie, what vLLM loads of them, their configuration, size and tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

_INDEX_FILE, _SECOND_COPY = "model.safetensors.index.json", "consolidated"
_TELLING = ("config.json", "tokenizer.json", "adapter_config.json")
"""Files of which every model, tokenizer or adapter of a hub has one."""
_REVISIONS: dict[str, str | None] = {}
Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> (data type as safetensors writes it, shape)."""


def follow_revision(model: str, revision: str | None) -> None:
    """Have `local_folder` answer with a branch, tag or commit of a model of the hub; None is the main branch."""
    _REVISIONS[model] = revision


def local_folder(model: str) -> Path:
    """Folder of a model's files: the path itself, or where Hugging Face keeps its snapshot.

    Raises:
        FileNotFoundError: the model is not on this disk.
    """
    path = Path(model)
    return path if path.is_dir() else _snapshot(model, _REVISIONS.get(model))


def folder_on_disk(model: str) -> Path | None:
    """As `local_folder`; None where the model is not on this disk."""
    try:
        return local_folder(model)
    except FileNotFoundError:
        return None


def hub_name(model: str) -> str:
    """Id of a model of the hub with what tells its revisions apart, `id@revision`; empty for a folder.

    That is the commit where the model is on this disk, else what `follow_revision` names, else the id stands alone.
    """
    if Path(model).is_dir():
        return ""
    revision = hub_commit(model, _REVISIONS.get(model)) or _REVISIONS.get(model)
    return f"{model}@{revision}" if revision else model


def hub_commit(model: str, revision: str | None) -> str:
    """The commit that a branch or tag of a hub's model stands for on this disk; empty for a folder, and without it."""
    try:
        return "" if Path(model).is_dir() else _snapshot(model, revision).name  # a snapshot's folder is its commit
    except FileNotFoundError:
        return ""


def is_hub_id(model: object) -> bool:
    """Whether a text can be the id of a model of the hub, `owner/name`, and is no folder."""
    return isinstance(model, str) and model.count("/") == 1 and model[0] not in "./~" and not Path(model).is_dir()


def snapshot_folder(model: str, revision: str | None) -> Path | None:
    """Folder of a revision of a hub's model, whichever is followed; None where it is not on this disk."""
    try:
        return _snapshot(model, revision)
    except FileNotFoundError:
        return None


@cache
def _snapshot(model: str, revision: str | None) -> Path:
    """The hub's own look-up is for whole repositories, of which nobody needs all that they hold."""
    from huggingface_hub import try_to_load_from_cache

    try:
        files = (try_to_load_from_cache(model, name, revision=revision) for name in _TELLING)
        return next(Path(file).parent for file in files if isinstance(file, str))
    except (ValueError, StopIteration) as error:  # the first of what is no id of the hub
        raise FileNotFoundError(f"{model} is not on this disk") from error


def tensor_bytes(model: str) -> int:
    """Bytes of all tensors in a checkpoint's safetensors files, headers left out.

    Counted on disk because kernels repack weights: on CPU, oneDNN moves FP16 matrices out of the module, where a sum
    over its parameters misses them.
    """
    return _tensor_bytes(local_folder(model))


@cache
def _tensor_bytes(folder: Path) -> int:
    return sum(_payload_bytes(file) for file in weight_files(folder))


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
