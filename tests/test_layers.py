"""Who may import whom, read off the source."""

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHILD_PROCESSES = {f"optimize.engine.{name}" for name in ("serve", "memory", "servable", "warm")}
"""Modules that only ever run inside an engine's own processes."""
IO = {
    "aiohttp", "asyncio", "csv", "datasets", "filelock", "http", "httpx", "io", "json", "os", "pathlib", "pickle",
    "pyarrow", "requests", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "urllib",
}  # fmt: skip
HEAVY = {"datasets", "mlflow", "optuna", "plotly", "pyarrow", "torch", "transformers", "vllm"}


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


def _name(path: Path) -> str:
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


def _targets(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
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
        for target in _targets(node, module, is_package)
    ]


MODULES = {
    _name(path): path
    for package in ("objectives", "optimize", "demo")
    for path in sorted((ROOT / package).rglob("*.py"))
}
IMPORTS = [
    found
    for module, path in MODULES.items()
    for found in imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
]


def _offenders(packages: Iterable[str], allowed: Iterable[str], typing_too: Iterable[str] = ()) -> list[Import]:
    """Imports of `packages` outside of the modules `allowed`, or outside of those that may for types only."""
    return [
        found
        for found in IMPORTS
        if found.package in set(packages)
        and found.module not in set(allowed)
        and not (found.typing and found.module in set(typing_too))
    ]


def _loaded_with(module: str, but_for: Collection[str] = ()) -> set[str]:
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
        targets = [found for found in IMPORTS if found.module == current and found.at_load]
        packages |= {found.package for found in targets}
        queue += [found.target for found in targets]
    return packages


def test_this_test_sees_imports_wherever_they_stand() -> None:
    source = """
import a.b, c
from d import e
from . import f
from .g import h
if TYPE_CHECKING:
    import i
def later():
    import j
    importlib.import_module("k.l")
class Body:
    import m
"""
    found = {(x.target, x.at_load, x.typing) for x in imports_of(source, "pack.mod")}
    assert {
        ("a.b", True, False), ("c", True, False), ("d", True, False), ("d.e", True, False), ("pack", True, False),
        ("pack.f", True, False), ("pack.g", True, False), ("i", False, True), ("j", False, False),
        ("k.l", False, False), ("m", True, False),
    } <= found  # fmt: skip


def test_all_packages_are_looked_at() -> None:
    assert {"objectives.base", "optimize.study", "optimize.engine.vllm", "optimize.recommend"} <= set(MODULES)


def test_objectives_are_a_leaf() -> None:
    ours = [found for found in IMPORTS if found.module.split(".")[0] == "objectives"]
    assert [found for found in ours if found.package in ("optimize", "demo")] == []


def test_vllm_is_touched_in_the_engine_folder_only_and_never_in_our_own_process() -> None:
    engine = [module for module in MODULES if module.startswith("optimize.engine.")]
    assert _offenders({"vllm"}, engine) == []
    at_load = [found for found in IMPORTS if found.package == "vllm" and found.at_load]
    assert [found for found in at_load if found.module not in CHILD_PROCESSES] == []


def test_the_engines_own_modules_are_not_imported_by_ours() -> None:
    assert [x for x in IMPORTS if x.target in CHILD_PROCESSES and x.module not in CHILD_PROCESSES] == []


def test_optuna_stays_where_studies_are_kept_and_searched() -> None:
    names = [
        "claims",
        "designs",
        "domain",
        "encoding",
        "exhaustive",
        "improvement",
        "space",
        "study",
        "storage",
        "trials",
        "samplers",
        "reuse",
        "dashboard",
    ]
    allowed = [f"optimize.{name}" for name in names]
    for_types = [
        "optimize.budget",
        "optimize.confirm",
        "optimize.defaults",
        "optimize.history",
        "optimize.report.interactions",
        "optimize.loop",
        "optimize.remembered",
        "optimize.reading",
        "optimize.report.conclude",
        "optimize.rows",
        "optimize.report.facts",
        "optimize.run",
        "optimize.telling",
        "optimize.tracking",
    ]
    assert _offenders({"optuna"}, allowed, for_types) == []


def test_mlflow_stays_in_its_mirror() -> None:
    assert _offenders({"mlflow"}, ["optimize.mirror"]) == []


def test_untyped_configuration_stops_at_the_door() -> None:
    assert (
        _offenders(
            {"hydra", "omegaconf"},
            ["optimize.cli", "optimize.schema", "optimize.schema_measuring", "optimize.schema_serving"],
        )
        == []
    )


def test_ray_stays_in_its_executor_and_is_imported_when_it_is_asked_for() -> None:
    assert _offenders({"ray"}, ["optimize.executor.ray"]) == []
    assert [found for found in IMPORTS if found.package == "ray" and found.at_load] == []


def test_workers_know_nothing_of_storage_and_tracking() -> None:
    ours = [x for x in IMPORTS if x.module in ("optimize.executor.worker", "optimize.executor.local")]
    theirs = tuple(f"optimize.{name}" for name in ("study", "trials", "storage", "tracking", "mirror"))
    assert [x for x in ours if x.package in ("optuna", "mlflow")] == []
    assert [x for x in ours if x.target.startswith(theirs)] == []


@pytest.mark.parametrize("module", ["optimize.pareto", "optimize.recommend"])
def test_the_decision_is_pure(module: str) -> None:
    own = {found.package for found in IMPORTS if found.module == module}
    assert own & (IO | HEAVY | {"hydra", "omegaconf"}) == set()
    # The package itself sets how many threads numpy gets, which decides nothing.
    assert _loaded_with(module, but_for=["optimize"]) & (IO | HEAVY | {"hydra", "omegaconf"}) == set()


@pytest.mark.parametrize("module", ["optimize.__main__", "optimize.cli", "optimize.schema", "optimize.engine.memory"])
def test_what_answers_a_typo_loads_nothing_heavy(module: str) -> None:
    assert _loaded_with(module) & HEAVY == set()
