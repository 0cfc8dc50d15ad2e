"""What the project's modules import, read off their source: the material of `test_layers.py`."""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Edges = set[tuple[str, str]]


@dataclass(frozen=True)
class Import:
    """`module` imports `target`. `at_load`: whenever the module is; `typing`: for type checkers only."""

    module: str
    target: str
    at_load: bool
    typing: bool

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


def module_name(path: Path) -> str:
    """The dotted name of a source file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _dynamic(node: ast.Call) -> Iterator[str]:
    """The module of import_module("...") or __import__("...")."""
    called = ast.unparse(node.func).rpartition(".")[2]
    if called in ("import_module", "__import__") and node.args:
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def targets(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """What a node imports into a module: modules, and names that may be modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = module.split(".")[: -(node.level - (1 if is_package else 0)) or None] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call):
        yield from _dynamic(node)


def _walk(node: ast.AST, at_load: bool, typing: bool) -> Iterator[tuple[ast.AST, bool, bool]]:
    yield node, at_load, typing
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        for guarded in node.body:
            yield from _walk(guarded, at_load, True)
        for other in node.orelse:
            yield from _walk(other, at_load, typing)
        return
    inside = at_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, inside, typing)


def imports_of(source: str, module: str, is_package: bool = False) -> list[Import]:
    """All imports in a module's source."""
    return [
        Import(module, target, at_load and not typing, typing)
        for node, at_load, typing in _walk(ast.parse(source), True, False)
        for target in targets(node, module, is_package)
    ]


MODULES = {
    module_name(path): path
    for package in ("objectives", "optimize", "demo")
    for path in sorted((ROOT / package).rglob("*.py"))
}
"""Name -> file of every module of the project."""


@functools.cache
def all_imports() -> tuple[Import, ...]:
    """The imports of all modules; computed when a test asks, for every worker collects every test."""
    return tuple(
        statement
        for module, path in MODULES.items()
        for statement in imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    )


def offenders(packages: Iterable[str], allowed: Iterable[str], typing_too: Iterable[str] = ()) -> list[Import]:
    """Imports of `packages` outside of the modules `allowed`, or outside of those that may for types only."""
    return [
        statement
        for statement in all_imports()
        if statement.package in set(packages)
        and statement.module not in set(allowed)
        and not (statement.typing and statement.module in set(typing_too))
    ]


def loaded_with(module: str, but_for: Collection[str] = ()) -> set[str]:
    """Top-level packages loaded by importing one of our modules, through all others of ours but for these."""
    seen: set[str] = set(but_for)
    packages: set[str] = set()
    queue = [module]
    while queue:
        current = queue.pop()
        if current in seen or current not in MODULES:
            continue
        seen.add(current)
        queue.append(current.rpartition(".")[0])  # importing a.b runs a/__init__.py
        loads = [statement for statement in all_imports() if statement.module == current and statement.at_load]
        packages |= {statement.package for statement in loads}
        queue += [statement.target for statement in loads]
    return packages


def _unit(module: str) -> str:
    """A package, or a module that stands directly in `optimize/`."""
    return ".".join(module.split(".")[: 2 if module.startswith("optimize.") else 1])


def _module_of(target: str) -> str:
    """The module of ours that an import names, itself or something in it; empty if it is not ours."""
    while target and target not in MODULES:
        target = target.rpartition(".")[0]
    return target


def edges_between(imports: Iterable[Import]) -> Edges:
    """Which unit imports which, also for types and within functions, but for the root package."""
    pairs = {(_unit(x.module), _unit(_module_of(x.target))) for x in imports if _module_of(x.target)}
    return {(a, b) for a, b in pairs if a != b and "optimize" not in (a, b)}


def layers_of(edges: Edges) -> dict[str, int]:
    """Unit -> layer: 0 for what imports none of ours, else one above the highest that it imports.

    Raises:
        AssertionError: units import each other, directly or around a corner.
    """
    waiting = {a: {b for x, b in edges if x == a} for a in {unit for edge in edges for unit in edge}}
    layers: dict[str, int] = {}
    while waiting:
        ready = {unit for unit, below in waiting.items() if below <= layers.keys()}
        assert ready, f"these import each other: {', '.join(sorted(waiting))}"
        layers |= {unit: 1 + max((layers[b] for b in waiting[unit]), default=-1) for unit in ready}
        waiting = {unit: below for unit, below in waiting.items() if unit not in ready}
    return layers
