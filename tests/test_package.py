"""The wheel, installed into an environment of its own, runs everything from any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SOURCES = [
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "conf",
    "demo",
    "objectives",
    "optimize",
    "requirements",
]
SIMULATED = [
    "engine=simulated", "search_space.quantization=null", "confirm.candidates=0", "load.warmup_s=0.1",
    "load.warmup_requests=2", "load.window_min_s=0.3", "load.window_requests=5", "load.window_max_s=60",
    "load.guard={repeats: 0, steal_max: 1, other_cores_max: 1, throttled_max: 1, drift_p: 0}",
    "load.guard.send_lag_p99_max_s=60", "load.guard.client_cpu_max=2",
]  # fmt: skip
MINE = """# @package _global_
defaults:
  - override /workload: file
  - override /objectives: [qps, p99_latency_s]
workload: {name: my prompts, path: prompts.jsonl, prompt_column: question, reference_column: null, max_tokens: 8}
study: {name: mine}
"""
CHECKOUT_ONLY = {"PYTHONPATH": "", "MLFLOW_TRACKING_URI": "", "OPTUNA_STORAGE": ""}


def _run(command: Sequence[str | Path], cwd: Path) -> str:
    """The output of a command that succeeds, run by a process that knows nothing of this checkout."""
    environment = {key: value for key, value in os.environ.items() if key not in CHECKOUT_ONLY}
    done = subprocess.run(
        command, cwd=cwd, env={**environment, "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _pip(*words: str | Path, cwd: Path) -> None:
    _run([sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *words], cwd)


def _wheel(folder: Path) -> Path:
    """The project's wheel, built from a copy: setuptools leaves files beside its sources, and packs what lies there."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    _pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", "dist", ".", cwd=folder)
    (wheel,) = (folder / "dist").iterdir()
    return wheel


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that holds the wheel, and the packages of this one beside it."""
    folder = tmp_path_factory.mktemp("package")
    source, environment = folder / "source", folder / "environment"
    source.mkdir()
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    # Only the folder itself: its own .pth files, an editable install of this project among them, are not read.
    packages = next((environment / "lib").glob("python*/site-packages"))
    (packages / "locked.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    _pip("--python", python, "install", "--no-deps", "--no-index", "--no-compile", _wheel(source), cwd=folder)
    shutil.rmtree(source)
    return python.parent


def test_every_command_finds_the_configuration(commands: Path, tmp_path: Path) -> None:
    """All in one process: each answers a mistake with the choices that it found under conf/."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert {path.name for path in commands.iterdir() if path.name.startswith("vllm-optimize")} == set(scripts)
    wrong = [[target, *(["batch_size"] if "tables" in target else []), "workload=mine"] for target in scripts.values()]
    answers = _in_one_process(commands, wrong, tmp_path, code=2)
    choices = "workload has no choice 'mine'; valid: completions, conversations, demo_abtest"
    assert [choices in answer for answer in answers] == [True] * len(scripts)


_ALL_IN_ONE = """
import importlib, json, sys
sys.stderr = sys.stdout
code, calls = json.loads(sys.argv[1])
for target, *words in calls:
    module, function = target.split(":")
    sys.argv[:] = [module, *words]
    try:
        getattr(importlib.import_module(module), function)()
    except SystemExit as end:
        assert end.code == code, target
    print(end="\\f", flush=True)
"""


def _in_one_process(commands: Path, calls: list[list[str]], cwd: Path, code: int = 0) -> list[str]:
    """The outputs of commands ([entry point, *words]), all in one process: each imports most of what the next needs."""
    return _run([commands / "python", "-c", _ALL_IN_ONE, json.dumps([code, calls])], cwd).split("\f")[:-1]


@pytest.fixture
def folder(empty_mlflow_db: Path, tmp_path: Path) -> Path:
    """A folder with nothing but MLflow's store, which takes five seconds to make.

    The study of `tests/live/test_main_job.py` begins without one.
    """
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_mlflow_db, tmp_path / "mlruns/mlflow.db")
    return tmp_path


def test_a_study_its_report_and_its_row_from_any_folder(commands: Path, folder: Path) -> None:
    calls = [
        ["optimize.__main__:main", "+study=smoke", *SIMULATED, "study.trials=1", "sampler=random"],
        ["optimize.report.__main__:main", "+study=smoke"],
        ["optimize.recommend:main"],
    ]
    study, report, matrix = _in_one_process(commands, calls, folder)
    assert "recommended for Real-time chat" in study
    assert "mlruns/studies/smoke/report" in report and "study `smoke`" in matrix
    assert {path.name for path in folder.iterdir()} == {"mlruns", ".cache"}


def test_a_study_of_the_users_own_and_the_tasks_of_the_project_in_the_folder_where_they_stand(
    commands: Path, folder: Path
) -> None:
    (folder / "conf/study").mkdir(parents=True)
    (folder / "conf/study/mine.yaml").write_text(MINE, encoding="utf-8")
    rows = [json.dumps({"question": f"{i} old dogs"}) for i in range(9)]
    (folder / "prompts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    metric = "+metrics.accuracy={_target_: objectives.accuracy.Accuracy, limit: 6}"
    measured = _run([commands / "vllm-optimize-measure", "+study=mine", *SIMULATED, "repeats=1", metric], folder)
    assert "workload: my prompts" in measured
    assert "\n| accuracy | " in measured and "\ntasks: everyday 1.0 (6 documents, " in measured
    assert len(list((folder / ".cache/accuracy").iterdir())) == 1
