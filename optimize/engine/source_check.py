"""Checks the text of vLLM's source for what the fork server relies on, before anything is imported or replaced.

The relevant facts of a release fit into a small outline (`outline`), so the tests hold those of releases that are not
installed: `python -m optimize.engine.source_check FOLDER_OF_VLLM` prints one.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

_CLI_ARGS = (
    "entrypoints/common/cli_args.py", "entrypoints/launchers/cli_args.py", "entrypoints/openai/cli_args.py",
)  # fmt: skip
_FILES = (
    "v1/utils.py",
    "platforms/cpu.py",
    "utils/system_utils.py",
    "utils/ompmultiprocessing.py",
    "v1/metrics/prometheus.py",
    "entrypoints/cli/serve.py",
    *_CLI_ARGS,
)
_START_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
_BINDINGS = {"OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"}
_VARIABLES = {_START_METHOD, "PROMETHEUS_MULTIPROC_DIR", *_BINDINGS}
_FUNCTIONS = {
    "CpuPlatform.check_and_update_config", "get_mp_context", "ServeSubcommand.cmd", "make_arg_parser",
    "validate_parsed_serve_args",
}  # fmt: skip

Outline = Mapping[str, Mapping[str, list[str]]]


def outline(root: Path) -> dict[str, dict[str, list[str]]]:
    """Facts about the relevant files of vLLM.

    Args:
        root: Folder of the package `vllm`, installed or unpacked.

    Returns:
        File -> {"imports" (of multiprocessing), "functions" (methods as Class.method), "start_methods" (arguments of
        get_context), "variables" (environment variables, by any mention)}. Missing files are left out.
    """
    return {
        name: _facts(ast.parse((root / name).read_text(encoding="utf-8"))) for name in _FILES if (root / name).is_file()
    }


def _facts(tree: ast.Module) -> dict[str, list[str]]:
    nodes = list(ast.walk(tree))
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {
        "imports": sorted(
            {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names} & {"multiprocessing"}
        ),
        "functions": sorted(_FUNCTIONS & set(_functions(tree))),
        "start_methods": sorted(
            ast.unparse(n.args[0])
            for n in nodes
            if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("get_context") and n.args
        ),
        "variables": sorted(_VARIABLES & texts),
    }


def _functions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef))


def _has(facts: Outline, file: str, kind: str, item: str) -> bool:
    return item in facts.get(file, {}).get(kind, [])


def starts(facts: Outline) -> bool:
    """Whether `optimize.engine.serve` can start a server of a vLLM with this outline, be it warm or cold."""
    has = partial(_has, facts)
    return has("entrypoints/cli/serve.py", "functions", "ServeSubcommand.cmd") and any(
        has(file, "functions", "make_arg_parser") and has(file, "functions", "validate_parsed_serve_args")
        for file in _CLI_ARGS
    )


def problems(facts: Outline) -> list[str]:
    """Expectations of the fork server that a vLLM with this outline does not meet."""
    has = partial(_has, facts)
    expectations: dict[str, Any] = {
        "v1/utils.py spawns API servers through its own `multiprocessing`": (
            has("v1/utils.py", "imports", "multiprocessing") and has("v1/utils.py", "start_methods", "'spawn'")
        ),
        f"platforms/cpu.py sets {_START_METHOD} in CpuPlatform.check_and_update_config": (
            has("platforms/cpu.py", "functions", "CpuPlatform.check_and_update_config")
            and has("platforms/cpu.py", "variables", _START_METHOD)
        ),
        f"utils/system_utils.py chooses the start method of workers by {_START_METHOD}": (
            has("utils/system_utils.py", "functions", "get_mp_context")
            and has("utils/system_utils.py", "variables", _START_METHOD)
        ),
        "utils/ompmultiprocessing.py binds workers by OpenMP's variables": (
            _BINDINGS & set(facts.get("utils/ompmultiprocessing.py", {}).get("variables", []))
        ),
        "v1/metrics/prometheus.py shares metrics through PROMETHEUS_MULTIPROC_DIR": has(
            "v1/metrics/prometheus.py", "variables", "PROMETHEUS_MULTIPROC_DIR"
        ),
        "entrypoints/cli/serve.py runs a server as ServeSubcommand.cmd": has(
            "entrypoints/cli/serve.py", "functions", "ServeSubcommand.cmd"
        ),
        "cli_args.py makes and checks the arguments of `serve`": any(
            has(file, "functions", "make_arg_parser") and has(file, "functions", "validate_parsed_serve_args")
            for file in _CLI_ARGS
        ),
    }
    return [f"not as expected: {text}" for text, holds in expectations.items() if not holds]


if __name__ == "__main__":
    print(json.dumps(outline(Path(sys.argv[1])), indent=1))
