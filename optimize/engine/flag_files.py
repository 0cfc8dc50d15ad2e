"""Files and folders that vLLM's flags name, found in the arguments of a command.

A value names a file if it exists on this disk, and if it holds a slash or stands in a flag that takes files. The flags
are those of vLLM 0.25 to 0.32 whose documentation speaks of a path; a test compares them with the installed release's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optimize.checkpoint import content_hash

READ = frozenset(
    {
        "allowed_local_media_path", "chat_template", "config", "default_mm_loras", "generation_config",
        "hf_config_path", "log_config_file", "lora_modules", "mm_encoder_fp8_scale_path", "model", "model_weights",
        "path", "pylogging_config_file",
        "reasoning_parser_plugin", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "tokenizer", "tool_parser_plugin",
    }
)  # fmt: skip
"""Flags, and keys of their JSON, whose values vLLM opens: a model, an adapter, a template."""
NOT_READ = frozenset(
    {
        "cache_dir", "debug_dump_path", "disable_access_log_for_endpoints", "download_dir", "ec_connector_module_path",
        "kv_connector_module_path", "local_cache_dir", "middleware", "mm_encoder_fp8_scale_save_path",
        "proton_profiler_dir", "root_path", "scheduler_cls", "served_model_name", "torch_profiler_dir", "uds",
    }
)  # fmt: skip
"""Flags and keys with paths that vLLM writes to, and with paths of addresses and of Python modules."""
_KEYWORDS = frozenset({"auto", "vllm"})
_DIGITS = 16
Place = Callable[[str], str]


def with_paths(arguments: Sequence[str], place: Place) -> list[str]:
    """Arguments of `vllm serve`, with another path for each that names a file.

    Args:
        arguments: Flags and their values, as `to_arguments` writes them.
        place: Path as it stands in a flag -> the path to put there.
    """
    flag, placed = "", []
    for argument in arguments:
        head, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        flag = head.lstrip("-").replace("-", "_") or flag
        placed.append(f"{head}{equals}{_value(flag, value, place)}")
    return placed


def named_files(arguments: Sequence[str]) -> list[str]:
    """The files and folders that arguments name, as they stand there, each once."""
    names: list[str] = []

    def noted(path: str) -> str:
        names.append(path)
        return path

    with_paths(arguments, noted)
    return list(dict.fromkeys(names))


def fingerprint(path: str) -> str:
    """Sixteen hexadecimal digits over a file, or over the files of a folder by the rule for models."""
    if Path(path).is_dir():
        return content_hash(path)
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:_DIGITS]


def _value(flag: str, value: str, place: Place) -> str:
    keys = flag.split(".")
    if value.startswith(("{", "[")):
        return _in_json(keys, value, place)
    name, equals, path = value.partition("=")
    if flag == "lora_modules" and equals and "," not in value:  # the form name=path
        return f"{name}={_path(keys, path, place)}"
    return _path(keys, value, place)


def _in_json(keys: Sequence[str], text: str, place: Place) -> str:
    """JSON with its paths replaced; to the letter as it was if it has none."""
    try:
        value = json.loads(text)
    except ValueError:  # a template, which may begin with a brace
        return _path(keys, text, place)
    placed = _below(keys, value, place)
    return text if placed == value else json.dumps(placed)


def _below(keys: Sequence[str], value: Any, place: Place) -> Any:
    if isinstance(value, dict):
        return {key: _below([*keys[:1], key], item, place) for key, item in value.items()}
    if isinstance(value, list):
        return [_below(keys, item, place) for item in value]
    return _path(keys, value, place) if isinstance(value, str) else value


def _path(keys: Sequence[str], value: str, place: Place) -> str:
    """The value, placed if it names a file.

    Args:
        keys: The flag, and the key within its JSON if there is one.
        value: What stands there.
        place: See `with_paths`.
    """
    names = {keys[-1], *({keys[0]} & {"default_mm_loras"})}  # whose keys are modalities
    if names & NOT_READ or value in _KEYWORDS or not (names & READ or "/" in value):
        return value
    return place(value) if os.path.exists(value) and os.path.abspath(value) != os.sep else value
