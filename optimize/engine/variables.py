"""Environment variables of engines: which ones the installed vLLM reads, and which may be set or searched.

The names are read from the text of vLLM's source, as its flags are (`optimize.engine.flags`).
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from functools import cache
from typing import Any

from optimize.engine.flags import vllm_distribution, vllm_root
from optimize.errors import ConfigError, closest
from optimize.redaction import is_secret_name

_SOURCE, _TABLE = "envs.py", "environment_variables"
_VLLM = "VLLM_"
OWNED = frozenset(
    {
        "OPTIMIZE_CGROUPS", "OPTIMIZE_ENGINE_KEY", "OPTIMIZE_KEEPER", "PYTHONPATH", "VLLM_API_KEY",
        "VLLM_ENGINE_READY_TIMEOUT_S", "VLLM_NO_USAGE_STATS", "VLLM_SERVER_DEV_MODE", "VLLM_USE_RUST_FRONTEND",
    }
)  # fmt: skip
"""Variables that this project sets itself, or keeps from engines: the gate has a key of its own, and must be there."""
_OF_PLACES = frozenset(
    {"CUDA_VISIBLE_DEVICES", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT"}
)  # fmt: skip
"""Variables by which engines are kept apart, or find what others have compiled: the same in all trials."""
_FAMILIES = ("CUDA_", "GOMP_", "HF_", "KMP_", "MALLOC_", "MKL_", "NCCL_", "OMP_", "ONEDNN_", "PYTORCH_", "TORCH")
"""Beginnings of names that libraries below vLLM read: OpenMP, math libraries, CUDA, NCCL, PyTorch, the allocator."""
_OTHERS = frozenset({"LD_PRELOAD", "GLIBC_TUNABLES", "TOKENIZERS_PARALLELISM"})
_NEAR = 0.85


@cache
def vllm_variables() -> frozenset[str]:
    """Names of all variables that the installed vLLM reads."""
    table = next((n for n in _tree().body if _is_table(n)), None)
    keys = table.value.keys if isinstance(table, ast.AnnAssign) and isinstance(table.value, ast.Dict) else []
    return frozenset(k.value for k in keys if isinstance(k, ast.Constant) and isinstance(k.value, str))


@cache
def default_values() -> dict[str, Any]:
    """Variable -> vLLM's own default, for those whose default its source states as a constant other than None."""
    declared = (node for node in ast.walk(_tree()) if isinstance(node, ast.AnnAssign))
    return {
        node.target.id: node.value.value
        for node in declared
        if isinstance(node.target, ast.Name) and isinstance(node.value, ast.Constant) and node.value.value is not None
    }


@cache
def _tree() -> ast.Module:
    path = vllm_root() / _SOURCE
    return ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")


def _is_table(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == _TABLE


def check_variables(fixed: Iterable[str], searched: Iterable[str]) -> None:
    """Refuse variables that this project sets, that nobody reads, or that no study may try.

    Args:
        fixed: Names that are the same for all engines (`engine.env`, `hardware.env`).
        searched: Names that are knobs.

    Raises:
        ConfigError: the first of them.
    """
    fixed = list(fixed)
    for name in fixed:
        _check_free(f"engine.env.{name}", name)
        if not _is_read(name) and not is_secret_name(name) and (name.startswith(_VLLM) or _is_misspelt(name)):
            raise ConfigError(_unknown(f"engine.env.{name}", name))
    for name in searched:
        _check_searched(f"search_space.env.{name}", name)
        if name in fixed:
            raise ConfigError(
                f"search_space.env.{name} is also fixed by engine.env or hardware.env: remove one of them"
            )


def _check_searched(where: str, name: str) -> None:
    _check_free(where, name)
    if is_secret_name(name):
        raise ConfigError(f"{where} is named like a secret, and no study tries secrets: fix it, +engine.env.{name}=...")
    if name in _OF_PLACES:
        raise ConfigError(f"{where} must be the same for all engines: fix it, +engine.env.{name}=...")
    if not _is_read(name):
        raise ConfigError(_unknown(where, name))


def _check_free(where: str, name: str) -> None:
    if name in OWNED:
        raise ConfigError(f"{where} is decided by this project itself: remove it from the configuration")


def _is_read(name: str) -> bool:
    return name in vllm_variables() or name in _OTHERS or (name.startswith(_FAMILIES) and not name.startswith(_VLLM))


def _is_misspelt(name: str) -> bool:
    return bool(difflib.get_close_matches(name, [*vllm_variables(), *_OTHERS], n=1, cutoff=_NEAR))


def _unknown(where: str, name: str) -> str:
    return (
        f"{where}: neither vLLM {vllm_distribution()[1]} nor a library that it is known to use reads this variable; "
        f"{closest(name, vllm_variables() | _OTHERS)}"
    )
