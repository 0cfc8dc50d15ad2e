"""What modules may do, read off their source: lines by number, removed files, live engines."""

import ast
from pathlib import Path

from tests.imports import MODULES, ROOT


def _indexed_lines(source: str) -> list[str]:
    """Lines that are taken by their number from a text that may have none."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Subscript)]
    return [
        ast.unparse(node)
        for node in nodes
        if isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and not isinstance(node.slice, ast.Slice)
        and (
            node.value.func.attr == "splitlines"
            or (node.value.func.attr in ("split", "rsplit") and ast.unparse(node.value.func.value).startswith("str("))
        )
    ]


def test_lines_that_are_taken_by_number_are_seen() -> None:
    source = "a = str(error).splitlines()[0]\nb = text.splitlines()[1:]\nc = str(e).split()[-1]\nd = path.split('/')[0]"
    assert _indexed_lines(source) == ["str(error).splitlines()[0]", "str(e).split()[-1]"]


def test_no_text_is_expected_to_have_a_line() -> None:
    """An error may have an empty text: `optimize.errors.one_line` names its class then."""
    indexed = {name: _indexed_lines(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    assert {name: lines for name, lines in indexed.items() if lines} == {}


REMOVERS = {
    "optimize.archive.unpacking": "folders that it has begun to fill",
    "optimize.certify.cgroups": "control groups that it has made",
    "optimize.deploy.bundle": "a file of earlier bundles, in a folder with a bundle's mark",
    "optimize.engine.leftovers": "folders for temporary files and shared memory in a tree's own record",
    "optimize.engine.reaper": "an engine's folder for temporary files, and the shared memory that its tree has opened",
    "optimize.engine.process": "a folder for temporary files that no engine came to use",
    "optimize.entries": "marked entries of the cache",
    "optimize.executor.worker": "files of a trial in a worker's own temporary folder",
    "optimize.files": "files that it has begun to write",
    "optimize.quantize.compress": "the error of an earlier attempt at the same checkpoint",
    "optimize.report.page": "figures in the last report's own list",
}
"""Modules that remove files, and which: a file of the user's is in none of them."""
_REMOVALS = {"rmtree", "unlink", "rmdir", "removedirs"}


def _removes_files(source: str) -> bool:
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = {ast.unparse(function) for function in calls}
    return any(name.rpartition(".")[2] in _REMOVALS or name == "os.remove" for name in names)


def test_files_are_removed_in_few_places() -> None:
    assert _removes_files("shutil.rmtree(path)") and _removes_files("os.remove(path)")
    assert not _removes_files("items.remove(1)")
    assert {name for name, path in MODULES.items() if _removes_files(path.read_text(encoding="utf-8"))} == set(REMOVERS)


def test_tests_on_live_engines_stand_where_the_scheduler_looks_for_them() -> None:
    """`tests/scheduler.py` knows them by their folder."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    live = {path.parent for path in files if "pytest.mark.live" in path.read_text(encoding="utf-8")}
    assert live == {ROOT / "tests/live"}
