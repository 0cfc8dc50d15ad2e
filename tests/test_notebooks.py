"""The notebooks run from top to bottom on the made studies, and carry no outputs in git."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.made import QUICK, ROOT

pytestmark = pytest.mark.timeout(600)  # the first of these tests makes the studies

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
READERS, RUNNERS = NOTEBOOKS[:2], NOTEBOOKS[2:]
"""Notebooks that read studies, and those that run one."""


def test_the_notebooks_are_these_three() -> None:
    assert [p.name for p in NOTEBOOKS] == ["01_read_a_study.ipynb", "02_compare_studies.ipynb", "03_add_your_own.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_stripped(path: Path) -> None:
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert cells and all(c["outputs"] == [] and c["execution_count"] is None for c in cells)


@pytest.mark.parametrize(
    "path", [*READERS, *(pytest.param(path, marks=pytest.mark.slow) for path in RUNNERS)], ids=lambda p: p.stem
)
@pytest.mark.filterwarnings("default")  # of Jupyter's own packages
def test_it_runs_from_top_to_bottom(path: Path, made_studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("OUTPUT_DIR", str(made_studies))
    monkeypatch.setenv(
        "OVERRIDES", shlex.join([*QUICK, "study.trials=1", "confirm.candidates=0", f"cache_dir={made_studies}/cache"])
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(ROOT / "notebooks")}})
    client.execute()
    shown = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert any(o.output_type == "execute_result" for o in shown)
