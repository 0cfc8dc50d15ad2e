"""Models of the Hugging Face hub: downloaded before anything is measured, and gone on with after an interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.checkpoint import follow_revision, snapshot_folder
from optimize.config.schema import StudyConfig
from optimize.engine.revisions import HubModel
from optimize.errors import ConfigError, one_line
from optimize.redaction import reveal

_CONFIGS = ("config.json", "adapter_config.json")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = (".safetensors", ".bin")
"""Ends of the names of weights that vLLM loads, those first that it prefers."""
_OTHER_WEIGHTS = (".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".mlmodel")
_SECOND_COPY = "consolidated"
_GB = 1e9


@dataclass(frozen=True, slots=True)
class _Source:
    """What is asked of the hub.

    Attributes:
        model: The model's id.
        revision: Branch, tag or commit; None for the main one.
        token: The user's; None for that of the environment or of a login.
    """

    model: str
    revision: str | None
    token: str | None


def fetch_models(config: StudyConfig, others: Sequence[str] = (), say: Callable[[str], None] = print) -> None:
    """Have a study's model, and other checkpoints that it names, on this disk; see `fetch`."""
    token = _token(config)
    fetch(config.model.path, say, _flags(config).get("revision"), token)
    for model in others:
        fetch(model, say, token=token)


def fetch_hub_models(config: StudyConfig, models: Iterable[HubModel], say: Callable[[str], None] = print) -> None:
    """Have the draft models and adapters on this disk that flags name, by the study's token."""
    token = _token(config)
    for model in models:
        fetch_beside(model.model, say, model.revision, token)


def follow(config: StudyConfig) -> None:
    """Have a study's model stand for the revision that its flags name, without asking for it."""
    follow_revision(config.model.path, _flags(config).get("revision"))


def _token(config: StudyConfig) -> str | None:
    token = _flags(config).get("hf_token")
    return None if token is None else str(reveal(token))


def _flags(config: StudyConfig) -> dict[str, Any]:
    return {**(config.engine.get("flags") or {}), **config.model.flags}


def fetch(model: str, say: Callable[[str], None], revision: str | None = None, token: str | None = None) -> None:
    """Have a model of the hub on this disk, where vLLM and transformers look for it; nothing is asked where it is.

    Small files come first and weights last, so that a model whose weights are there is whole. The library shows how far
    it has got, and downloads no file again that an earlier download has finished.

    Args:
        model: Its id; a local folder is left alone.
        say: Called with a line for people before anything large is downloaded.
        revision: Branch, tag or commit; None for the main one.
        token: Access token; None for that of the environment (HF_TOKEN) or of `hf auth login`.

    Raises:
        ConfigError: it cannot be had, with the remedy.
    """
    if not Path(model).is_dir():
        follow_revision(model, revision)
        fetch_beside(model, say, revision, token)


def fetch_beside(model: str, say: Callable[[str], None], revision: str | None = None, token: str | None = None) -> None:
    """As `fetch`, of an id; leaves alone which revision of it is followed, as the model may be the study's own, too."""
    if _is_whole(snapshot_folder(model, revision)):
        return
    source = _Source(model, revision, token)
    try:
        _download(source, say)
    except ConfigError:
        raise
    except Exception as error:  # the hub's errors, those of HTTP, and those of the disk
        raise ConfigError(f"model.path={model} {_reason(source, error)}") from error


def _is_whole(folder: Path | None) -> bool:
    """Whether a folder of the hub's cache holds the configuration of a model or an adapter, and all of its weights."""
    if folder is None:
        return False
    for index in _INDEXES:
        if (folder / index).is_file():
            return all((folder / name).is_file() for name in _indexed(folder / index))
    return any((folder / name).is_file() for name in _CONFIGS) and any(folder.glob(f"*{end}") for end in _WEIGHTS)


def _indexed(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return {index.name}


def _download(source: _Source, say: Callable[[str], None]) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE

    info = HfApi(token=source.token).model_info(source.model, revision=source.revision, files_metadata=True)
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
    small, weights = _needed_files(list(sizes))
    if not weights:
        raise ConfigError(
            f"model.path={source.model} holds no weights that vLLM loads (*.safetensors, *.bin): name another model"
        )
    total = sum(sizes[name] for name in [*small, *weights])
    _check_room(source, Path(HF_HUB_CACHE), total)
    say(f"downloading {source.model} ({len(weights)} files of weights, {total / _GB:.2f} GB) into {HF_HUB_CACHE}")
    for names in (small, weights):
        snapshot_download(source.model, revision=source.revision, token=source.token, allow_patterns=names)


def _needed_files(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(Small files, files of weights) that vLLM and transformers read, of all of a repository's top folder."""
    top = [name for name in names if "/" not in name]
    small = [name for name in top if not name.endswith((*_WEIGHTS, *_OTHER_WEIGHTS))]
    for end in _WEIGHTS:
        weights = [name for name in top if name.endswith(end)]
        if weights:
            return small, [name for name in weights if not name.startswith(_SECOND_COPY)] or weights
    return small, []


def _check_room(source: _Source, cache: Path, total: int) -> None:
    folder = next(parent for parent in (cache, *cache.parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if free < total:
        raise ConfigError(
            f"model.path={source.model} takes {total / _GB:.1f} GB, and {cache} has room for {free / _GB:.1f} GB: set "
            "HF_HOME to a folder on a larger disk"
        )


def _reason(source: _Source, error: Exception) -> str:
    """Why a model cannot be had, and the remedy."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{source.model}"
    if isinstance(error, errors.GatedRepoError):
        return f"is gated: accept its terms on {page}, and set HF_TOKEN to a token of that account (or hf auth login)"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "is not on the hub, or is private: correct the id, or set HF_TOKEN to a token that may read it"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {source.revision!r} on the hub: correct model.flags.revision"
    return _unreachable(error)


def _unreachable(error: Any) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return (
            f"is not on this disk ({HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids to download it: unset that, or give "
            "the folder of the model, model.path=/path/to/it"
        )
    return (
        f"cannot be downloaded ({one_line(error)}): the same command goes on where it stopped; without a network, give "
        "the folder of the model, model.path=/path/to/it"
    )
