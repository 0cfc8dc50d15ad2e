"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from optimize.engine.proxies import with_direct_loopback
from optimize.redaction import forgetting
from tests.compositions import share
from tests.live.fixtures import (  # noqa: F401
    cold_start,
    live_engines,
    live_vllm,
    plain_answers,
    plain_engine,
    real_smoke,
    smoke_command,
)
from tests.scheduler import LiveTogether, in_order

os.environ.update(with_direct_loopback(os.environ))  # tests ask their own servers, whatever proxy a developer has
os.environ["OPTIMIZE_PLACES"] = str(os.getpid())  # tests that run side by side take the same processors

gc.disable()  # until all is collected: modules and parameters are millions of objects that live on

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The scheduler of `--dist loadfile`; None leaves other ways to distribute tests to xdist."""
    return LiveTogether(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_order(items)


def pytest_collection_finish() -> None:
    gc.freeze()  # what lives on need not be looked at again
    gc.enable()


@pytest.fixture(autouse=True)
def _secrets_of_a_test() -> Iterator[None]:
    """What a test registers as secret is not hidden in the next."""
    with forgetting():
        yield


@pytest.fixture(autouse=True)
def _compositions_are_shared(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of the configuration itself have Hydra compose all of it; others share what they have in common."""
    with pytest.MonkeyPatch.context() as patches:
        if not request.node.nodeid.startswith(("tests/optimize/config/", "tests/test_conf.py")):
            share(patches)
        yield


@pytest.fixture
def workload_file(tmp_path: Path) -> Path:
    """Sixty prompts whose references are the prompts themselves, as the simulated engine answers."""
    path = tmp_path / "workload.jsonl"
    words = [
        "the",
        "old",
        "dog",
        "sees",
        "a",
        "small",
        "red",
        "house",
        "near",
        "the",
        "river",
        "and",
        "two",
        "birds",
    ]
    lines = [json.dumps({"prompt": p, "reference": p}) for p in (f"{i} " + " ".join(words) for i in range(60))]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests, which all its workers share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def empty_mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store without runs, made by whichever worker comes first: it takes MLflow five seconds."""
    path = shared_folder(tmp_path_factory) / "mlflow.db"
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            from mlflow import MlflowClient

            draft = path.with_suffix(".draft")
            MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments()
            draft.rename(path)
    return path


@pytest.fixture
def simulated(tmp_path: Path, workload_file: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides of a quick study on the simulated engine, everything under tmp_path."""
    # A report's pictures take a quarter of so small a study's time; `tests/optimize/report/test_page.py` tests them.
    monkeypatch.setattr("optimize.report.page.write_png", lambda drawing, path: path)
    (tmp_path / "out").mkdir()
    shutil.copy(empty_mlflow_db, tmp_path / "out/mlflow.db")
    return [
        "+study=smoke",
        "engine=simulated",
        "engine.token_s=0.004",
        "workload=file",
        f"workload.path={workload_file}",
        f"output_dir={tmp_path}/out",
        f"cache_dir={tmp_path}/cache",
        "search_space.quantization=null",
        "load.warmup_s=0.1",
        "load.warmup_requests=4",
        "load.window_min_s=1.2",
        "load.window_requests=20",
        "load.window_max_s=60",
        "load.precision={}",
        "confirm.candidates=0",  # tested by itself, and it takes its time
        # Tests share their cores with other tests: what disturbs a measurement is tested by itself.
        "load.guard={repeats: 0, steal_max: 1, other_cores_max: 1, throttled_max: 1, drift_p: 0}",
        "load.guard.send_lag_p99_max_s=60",
        "load.guard.client_cpu_max=2",
    ]


@pytest.fixture(scope="session")
def made_studies(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path) -> Path:
    """The output folder of four small studies; workers that run in parallel share it."""
    from tests.made import made

    return made(shared_folder(tmp_path_factory), empty_mlflow_db)


@pytest.fixture
def quick(tmp_path: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides of a study of one trial on instant workers, without pictures."""
    from tests.made import QUICK

    monkeypatch.setattr("optimize.report.page.write_png", lambda drawing, path: path)
    (tmp_path / "out").mkdir()
    shutil.copy(empty_mlflow_db, tmp_path / "out/mlflow.db")
    folders = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    return ["+study=smoke", *QUICK, "study.trials=1", "confirm.candidates=0", *folders]


VERBS = {
    "optimize": "optimize.__main__", "optimize.answers": "optimize.answers",
    "optimize.cache": "optimize.cache.__main__", "optimize.certify": "optimize.certify.__main__",
    "optimize.deploy": "optimize.deploy.__main__", "optimize.drift": "optimize.drift.__main__",
    "optimize.export": "optimize.export", "optimize.guard": "optimize.guard.__main__",
    "optimize.measure": "optimize.measure.__main__",
    "optimize.price": "optimize.price.__main__", "optimize.quantize": "optimize.quantize.__main__",
    "optimize.recommend": "optimize.recommend",
    "optimize.report": "optimize.report.__main__", "optimize.serve": "optimize.serve.__main__",
    "optimize.sync": "optimize.sync", "optimize.tables": "optimize.tables.__main__",
    "optimize.unpack": "optimize.unpack", "optimize.whatif": "optimize.whatif.__main__",
}  # fmt: skip


@pytest.fixture
def optimize(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `python -m optimize` (or another verb) within this process, which has imported everything already."""

    def run(overrides: Sequence[str], verb: str = "optimize") -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", [verb, *overrides])
        main = importlib.import_module(VERBS[verb]).main
        out, err = io.StringIO(), io.StringIO()
        # Warnings of other people's packages are not errors to the user of a command.
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as ended:
                main()
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess([verb, *overrides], ended.value.code, out.getvalue(), err.getvalue())

    return run


def in_a_process(
    overrides: Sequence[str], verb: str = "optimize", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", verb, *overrides], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "COLUMNS": "200"}, check=False,
    )  # fmt: skip


@pytest.fixture
def optimize_process() -> Run:
    """Runs `python -m optimize` (or another verb) in a process of its own, as a user would."""
    return in_a_process


def engine_processes(marker: str) -> list[psutil.Process]:
    """Living processes whose command line holds `marker`, this one left out."""
    result = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if marker in line and process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            result.append(process)
    return result


def gone(marker: str, timeout_s: float = 60.0) -> bool:
    """Whether all processes whose command line holds `marker` end, waited for generously."""
    deadline = time.monotonic() + timeout_s
    while engine_processes(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
