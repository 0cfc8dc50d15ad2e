"""Who may import whom, read off the source."""

import ast
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from tests.imports import (
    MODULES,
    ROOT,
    all_imports,
    edges_between,
    imports_of,
    layers_of,
    loaded_with,
    module_name,
    offenders,
    targets,
)

CHILD_PROCESSES = {
    f"optimize.engine.{name}"
    for name in ("serve", "worker_extension", "kernel_check", "fork_server", "vllm_adaptation")
}
"""Modules that only ever run inside an engine's own processes."""
IO = {
    "aiohttp", "asyncio", "csv", "datasets", "filelock", "http", "httpx", "io", "json", "os", "pathlib", "pickle",
    "pyarrow", "requests", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "urllib",
}  # fmt: skip
HEAVY = {"datasets", "mlflow", "optuna", "plotly", "pyarrow", "torch", "transformers", "vllm"}


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
    imports = {(x.target, x.at_load, x.typing) for x in imports_of(source, "pack.mod")}
    assert {
        ("a.b", True, False), ("c", True, False), ("d", True, False), ("d.e", True, False), ("pack", True, False),
        ("pack.f", True, False), ("pack.g", True, False), ("i", False, True), ("j", False, False),
        ("k.l", False, False), ("m", True, False),
    } <= imports  # fmt: skip


def test_all_packages_are_looked_at() -> None:
    assert {"objectives.base", "optimize.study.lifecycle", "optimize.engine.vllm", "optimize.recommend"} <= set(MODULES)


def test_objectives_are_a_leaf() -> None:
    ours = [x for x in all_imports() if x.module.split(".")[0] == "objectives"]
    assert [x for x in ours if x.package in ("optimize", "demo")] == []


def test_vllm_is_touched_in_the_engine_folder_only_and_never_in_our_own_process() -> None:
    engine = [module for module in MODULES if module.startswith("optimize.engine.")]
    assert offenders({"vllm"}, engine) == []
    at_load = [x for x in all_imports() if x.package == "vllm" and x.at_load]
    assert [x for x in at_load if x.module not in CHILD_PROCESSES] == []


def test_the_engines_own_modules_are_not_imported_by_ours() -> None:
    assert [x for x in all_imports() if x.target in CHILD_PROCESSES and x.module not in CHILD_PROCESSES] == []


def test_optuna_stays_where_studies_are_kept_and_searched() -> None:
    packages = (
        "optimize.search.", "optimize.study.", "optimize.testing.", "optimize.tracking.dashboard",
        "optimize.ui.dashboard",
    )  # fmt: skip
    allowed = [module for module in MODULES if module.startswith(packages)]
    typed = ("optimize.archive.", "optimize.driver.", "optimize.report.", "optimize.whatif.")
    for_types = [*(module for module in MODULES if module.startswith(typed)), "optimize.tracking.tracker"]
    assert offenders({"optuna"}, allowed, for_types) == []


OPTUNA_COMPAT = ROOT / "optimize" / "search" / "optuna_compat.py"
OPTUNA_PRIVATE = {"_fixed_params", "_get_trials", "_relative_params", "_thread_local"}
"""Private attributes of Optuna's classes, beside those that optuna_compat.py uses."""


def _private_uses(source: str, names: Collection[str]) -> list[str]:
    """Private modules and names that are imported from Optuna, and private attributes of objects other than `self`."""
    nodes = list(ast.walk(ast.parse(source)))
    imports = [target for node in nodes for target in targets(node, "module", False)]
    attributes = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr in names]
    return [
        *(t for t in imports if t.split(".")[0] == "optuna" and any(part.startswith("_") for part in t.split("."))),
        *(ast.unparse(n) for n in attributes if ast.unparse(n.value) not in ("self", "cls")),
    ]


def _private_attributes(source: str) -> set[str]:
    return {n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute) and n.attr.startswith("_")}


def test_private_names_of_optuna_are_seen() -> None:
    source = """
import optuna._hypervolume
from optuna.storages import _CachedStorage, get_storage
def f(self, study): return self._storage, study._storage, self.study._storage
"""
    uses = {"optuna._hypervolume", "optuna.storages._CachedStorage", "study._storage", "self.study._storage"}
    assert set(_private_uses(source, {"_storage"})) == uses


def test_private_names_of_optuna_stand_in_one_module() -> None:
    used = _private_attributes(OPTUNA_COMPAT.read_text(encoding="utf-8"))
    assert "_storage" in used and _private_uses(OPTUNA_COMPAT.read_text(encoding="utf-8"), used)
    files = [p for package in ("optimize", "benchmarks", "tests") for p in (ROOT / package).rglob("*.py")]
    sources = {p: p.read_text(encoding="utf-8") for p in files if p not in (OPTUNA_COMPAT, Path(__file__))}
    uses = {str(p.relative_to(ROOT)): _private_uses(s, used | OPTUNA_PRIVATE) for p, s in sources.items()}
    assert {path: names for path, names in uses.items() if names} == {}


def test_mlflow_stays_in_its_mirror() -> None:
    assert offenders({"mlflow"}, ["optimize.tracking.mlflow_mirror"]) == []


def test_consoles_are_made_in_one_place_which_shows_text_as_it_is() -> None:
    makers = {x.module for x in all_imports() if x.target == "rich.console.Console" and not x.typing}
    assert makers == {"optimize.formatting"}


def test_untyped_configuration_stops_at_the_door() -> None:
    config = [module for module in MODULES if module.startswith("optimize.config.")]
    assert offenders({"hydra", "omegaconf"}, ["optimize.cli", *config]) == []


def test_ray_stays_in_its_executor_and_is_imported_when_it_is_asked_for() -> None:
    assert offenders({"ray"}, ["optimize.executor.ray"]) == []
    assert [x for x in all_imports() if x.package == "ray" and x.at_load] == []


def test_workers_know_nothing_of_storage_and_tracking() -> None:
    ours = [x for x in all_imports() if x.module in ("optimize.executor.worker", "optimize.executor.processes")]
    theirs = ("optimize.study", "optimize.tracking", "optimize.driver")
    assert [x for x in ours if x.package in ("optuna", "mlflow")] == []
    assert [x for x in ours if x.target.startswith(theirs)] == []


PURE = ("optimize.pareto", "optimize.decision.", "optimize.capacity.", "optimize.canary.")


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(PURE)])
def test_the_decision_is_pure(module: str) -> None:
    own = {x.package for x in all_imports() if x.module == module}
    assert own & (IO | HEAVY | {"hydra", "omegaconf"}) == set()
    # The package itself installs the answers to old names, the schema's classes carry bounds.
    beside = ["optimize", "optimize.config.schema", "optimize.config.measuring"]
    loaded = loaded_with(module, but_for=beside)
    assert loaded & (IO | HEAVY | {"hydra", "omegaconf"}) == set()


@pytest.mark.parametrize(
    "module",
    [
        "optimize.__main__", "optimize.cli", "optimize.config.schema", "optimize.engine.worker_extension",
        "optimize.ui.__main__",
    ],
)  # fmt: skip
def test_what_answers_at_once_loads_nothing_heavy(module: str) -> None:
    assert loaded_with(module) & HEAVY == set()


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("optimize.driver.run", {"aiohttp"}), ("optimize.executor.worker", {"aiohttp"}),
        ("optimize.engine.simulated_server", {*HEAVY, "httpx", "numpy", "psutil"}),
    ],
)  # fmt: skip
def test_a_process_loads_nothing_that_only_another_needs(module: str, others: set[str]) -> None:
    assert loaded_with(module) & others == set()


# --- the house: packages, layers, sizes -----------------------------------------------------------------------------

SINGLE_FILES = {
    "__init__", "__main__", "answers", "cli", "databases", "entries", "errors", "files", "formatting",
    "ledger", "outcome", "pareto", "raw_data", "recommend", "sync", "ticker",
    "export", "unpack",
}  # fmt: skip
"""What stands directly in `optimize/`; everything else belongs to a package."""
MOST_LAYERS = 9
MOST_PARAMETERS = 6


def test_layers_are_counted_from_the_bottom_and_circles_are_seen() -> None:
    assert layers_of({("c", "b"), ("b", "a"), ("c", "a")}) == {"a": 0, "b": 1, "c": 2}
    with pytest.raises(AssertionError, match="import each other: a, b"):
        layers_of({("c", "b"), ("b", "a"), ("a", "b"), ("a", "d")} - {("c", "b")})


def test_imports_point_one_way_through_few_layers(record_property: Callable[[str, object], None]) -> None:
    edges = edges_between(all_imports())
    layers = layers_of(edges)
    record_property("layers", max(layers.values()) + 1)
    record_property("imports", len(edges))
    assert max(layers.values()) + 1 <= MOST_LAYERS


def test_only_single_files_stand_outside_of_packages() -> None:
    assert {path.stem for path in (ROOT / "optimize").glob("*.py")} == SINGLE_FILES


@pytest.mark.parametrize("path", [p for p in MODULES.values() if p.name == "__init__.py"], ids=module_name)
def test_packages_hold_no_code_of_their_own(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    others = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(n) for n in others if not _is_documentation_or_all(n)] == []


def _is_documentation_or_all(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_packages_of_the_project_are_all_packages() -> None:
    folders = {path.parent for path in MODULES.values()}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("demo")])
def test_functions_take_few_parameters(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f"{f.name}: {_parameters(f)}" for f in functions if _parameters(f) > MOST_PARAMETERS] == []
