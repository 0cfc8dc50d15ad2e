"""LoRA adapters: which of them vLLM's flags name, which of them requests ask for, and whether they fit the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.checkpoint import is_hub_id, local_folder, snapshot_folder, tensors_of, weight_files
from optimize.errors import ConfigError, closest

MODEL = "model"
"""Name under which an engine serves the model itself."""
BASE = "base"
"""Name by which a configuration asks for the model itself beside its adapters."""
ADAPTERS = "lora_modules"
"""vLLM's flag that names adapters."""
_RANK_FLAG, _DEFAULT_RANK = "max_lora_rank", 16
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM 0.25 to 0.32 takes
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MATRIX = re.compile(r"(?:.*\.)?(layers\.\d+\..+)\.lora_([AB])(?:\.default)?\.weight")
_LAYER = re.compile(r"(?:.*\.)?(layers\.\d+\..+)")
_FORM = "'+model.lora={NAME: FOLDER}'"
_REMEDY = "give an adapter that was made for this model, or the model that it was made for"
Shape = tuple[int, ...]


def adapters_of(flags: Mapping[str, Any]) -> dict[str, str]:
    """Name -> folder or Hugging Face id of the adapters in `lora_modules`, in any form that vLLM takes.

    Raises:
        ConfigError: an entry is in none of them, or two have one name.
    """
    pairs = [_adapter(entry) for entry in _entries(flags.get(ADAPTERS))]
    adapters = dict(pairs)
    if len(adapters) < len(pairs) or {MODEL, BASE} & adapters.keys():
        raise ConfigError(
            f"{ADAPTERS} names {', '.join(name for name, _ in pairs)}: each adapter needs a name of its own, which is "
            f"neither {MODEL} nor {BASE}"
        )
    return adapters


def _adapter(entry: Any) -> tuple[str, str]:
    if isinstance(entry, str) and "," not in entry and not entry.startswith("{"):
        name, _, path = entry.partition("=")
    else:
        fields = _from_json(entry) if isinstance(entry, str) else entry
        name, path = (str(fields.get(key, "")) for key in ("name", "path")) if isinstance(fields, Mapping) else ("", "")
    if not name or not path:
        raise ConfigError(f"{ADAPTERS}: {entry!r} is no adapter: write {_FORM}, or NAME=FOLDER in {ADAPTERS}")
    return name, path


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def flags_for(adapters: Mapping[str, str]) -> dict[str, Any]:
    """The flags with which vLLM serves adapters, each under its name."""
    if not adapters:
        return {}
    rank = max(_rank(folder_of(path)) for path in adapters.values())
    least = next((size for size in _RANKS if size >= rank), rank)
    modules = [_module(name, path) for name, path in adapters.items()]
    return {
        "enable_lora": True, ADAPTERS: modules, **({_RANK_FLAG: least} if rank > _DEFAULT_RANK else {})
    }  # fmt: skip


def _module(name: str, path: str) -> str:
    return json.dumps({"name": name, "path": path}) if "," in path else f"{name}={path}"


def folder_of(path: str) -> Path | None:
    """The folder of an adapter, or of the hub's main revision of it; None where this disk has neither."""
    if Path(path).is_dir():
        return Path(path)
    return snapshot_folder(path, None) if is_hub_id(path) else None


def with_folders(value: Any) -> Any:
    """The flag's value with the folders of the hub's adapters, where this disk has them, in place of their ids.

    vLLM takes no revision of an adapter: given the id, it would load what the hub has when an engine starts.
    """
    entries = _entries(value)
    located = [_in_folder(entry) for entry in entries]
    return value if located == list(entries) else located


def _entries(value: Any) -> Sequence[Any]:
    value = value or []
    return value if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _in_folder(entry: Any) -> Any:
    name, path = _adapter(entry)
    folder = folder_of(path)
    if folder is None or Path(path).is_dir():
        return entry
    fields = _from_json(entry) if isinstance(entry, str) and entry.startswith("{") else entry
    return {**fields, "path": str(folder)} if isinstance(fields, Mapping) else _module(name, str(folder))


def asked_names(flags: Mapping[str, Any], selection: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names that requests carry, one after the other: those that are chosen, else all adapters, else the model's.

    Args:
        flags: vLLM's.
        selection: A name, several, or None; `BASE` is the model itself.

    Raises:
        ConfigError: there is no such adapter.
    """
    adapters = adapters_of(flags)
    names = [selection] if isinstance(selection, str) else list(selection or adapters or [BASE])
    for name in names:
        if name not in (*adapters, BASE):
            raise ConfigError(f"engine.model={name!r} is no adapter of model.lora; {closest(name, [*adapters, BASE])}")
    return tuple(MODEL if name == BASE else name for name in names)


def asked_in_words(flags: Mapping[str, Any], selection: str | Sequence[str] | None) -> str:
    """The adapters that requests ask for, for signatures; empty where there are none."""
    if not adapters_of(flags):
        return ""
    return ", ".join(BASE if name == MODEL else name for name in asked_names(flags, selection))


def check_adapters(flags: Mapping[str, Any], model: str) -> None:
    """Refuse adapters that vLLM does not take, or that were made for a model of another shape.

    Args:
        flags: vLLM's, which name them.
        model: Folder or Hugging Face id of the model.

    Raises:
        ConfigError: naming the adapter, what is wrong with it and the remedy.
    """
    adapters = adapters_of(flags)
    if adapters and not flags.get("enable_lora"):
        raise ConfigError(f"{ADAPTERS} needs enable_lora=true: give adapters by {_FORM}, which sets it")
    for name, path in adapters.items():
        where, folder = f"adapter {name} ({path})", folder_of(path)
        if folder is None:
            if not is_hub_id(path):
                raise ConfigError(f"{where} is neither a folder nor a Hugging Face id: correct model.lora.{name}")
            continue
        _check_features(where, _config(folder), int(flags.get(_RANK_FLAG) or _DEFAULT_RANK))
        if Path(model).is_dir() and (misfit := _misfit(folder, Path(model))):
            base = _config(folder).get("base_model_name_or_path") or "another model"
            raise ConfigError(f"{where} was made for {base} and does not fit model.path={model}: {misfit}; {_REMEDY}")


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"adapter {folder} has no readable {_CONFIG}: give the folder of a LoRA adapter") from error
    return config if isinstance(config, Mapping) else {}


def _rank(folder: Path | None) -> int:
    """The largest rank of an adapter; 0 of one that is not on this disk."""
    if folder is None:
        return 0
    config = _config(folder)
    return max([int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())])


def _check_features(where: str, config: Mapping[str, Any], most: int) -> None:
    """Refuse what vLLM refuses when the first request asks for the adapter (`vllm.lora.peft_helper`, 0.25 to 0.32)."""
    rank = max([int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())])
    saved = set(config.get("modules_to_save") or []) - {"classifier", "score"}
    faults = {
        f"is no LoRA ({config.get('peft_type')})": config.get("peft_type", "LORA") != "LORA",
        f"has weights of whole modules ({', '.join(sorted(saved))})": saved,
        "is DoRA": config.get("use_dora"),
        "has a bias": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "states no rank": rank < 1,
    }
    for fault, holds in faults.items():
        if holds:
            raise ConfigError(f"{where} {fault}, which vLLM does not serve: merge it into the model, or train it anew")
    if rank > most:
        raise ConfigError(f"{where} has rank {rank}, more than {_RANK_FLAG}={most}: raise it, or leave it out")


def _misfit(adapter: Path, model: Path) -> str:
    """The first matrix of an adapter that the model lacks, or has in another shape; empty where all fit."""
    layers = dict(_layers(model))
    for module, shapes in _matrices(adapter).items():
        if not layers or ".experts" in module:  # which checkpoints name in many ways
            continue
        if not any(name == module or name.startswith(f"{module}.") for name in layers):
            return f"it has no {module}"
        have, want = layers.get(f"{module}.weight", ()), (shapes.get("B", (0,))[0], shapes.get("A", (0,))[-1])
        if len(have) == 2 and all(want) and have != want:
            return f"{module} is {have[0]} x {have[1]} in the model and {want[0]} x {want[1]} in the adapter"
    return ""


def _layers(model: Path) -> Iterator[tuple[str, Shape]]:
    """(name from its layer on, shape) of a model's tensors, without what stands before the layers."""
    for name, (kind, shape) in tensors_of(weight_files(local_folder(str(model)))).items():
        if match := _LAYER.fullmatch(name):
            # A packed matrix has another shape than the one that it stands for.
            yield match[1], shape if kind.startswith(("F", "BF")) else ()


def _matrices(adapter: Path) -> dict[str, dict[str, Shape]]:
    """Module -> {"A": (rank, inputs), "B": (outputs, rank)}."""
    matrices: dict[str, dict[str, Shape]] = {}
    for name, (_, shape) in tensors_of([adapter / _WEIGHTS]).items():
        if match := _MATRIX.fullmatch(name):
            matrices.setdefault(match[1], {})[match[2]] = shape
    return matrices
