"""A real Ray cluster on this machine, two nodes of one worker each; workers and nodes killed while a study runs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from optimize.engine.process import free_port
from optimize.ledger import Ledger
from tests.conftest import ROOT, Run, gone
from tests.optimize.driver.test_session import runs, start, stored

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra `ray`)"),
    pytest.mark.timeout(300),
]
HERE = sorted(os.sched_getaffinity(0))
MARK = ("CLUSTER_OF_TESTS", str(os.getpid()))
"""In the environment of every process of this module's cluster: other tests run engines at the same time."""


class Nodes:
    """A cluster whose nodes come and go; see `nodes.py`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.optimize.executor.nodes"], cwd=ROOT, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "RAY_worker_niceness": "0", MARK[0]: MARK[1]},  # or workers starve beside other tests
        )  # fmt: skip
        self.address = self._heard(r"[\d.]+:\d+")

    def have(self, count: int) -> None:
        self._say(f"have {count}")

    def kill(self) -> None:
        self._say("kill")

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        self._heard("done")

    def _heard(self, pattern: str) -> str:
        """The next line of this kind: Ray has things to say of its own."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if re.fullmatch(pattern, line.strip()):
                return line.strip()
        raise AssertionError("the cluster did not start")

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    cluster = Nodes()
    yield cluster
    cluster.close()


def on(nodes: Nodes) -> list[str]:
    return ["executor=ray", f"executor.address={nodes.address}"]


def actors() -> list[psutil.Process]:
    """Living workers of the project on the cluster."""
    return _of_the_cluster("ray::Remote")


def engines() -> list[psutil.Process]:
    """Living engines that its workers started."""
    return _of_the_cluster("optimize.engine.simulated")


def _of_the_cluster(word: str) -> list[psutil.Process]:
    result = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if word in " ".join(process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            with contextlib.suppress(psutil.Error):
                if MARK in process.environ().items():
                    result.append(process)
    return result


def lines_until(process: subprocess.Popen[str], pattern: str, heard: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        heard.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError(f"never printed {pattern!r}: {''.join(heard)} {process.stderr and process.stderr.read()}")


def told_once(out: Path, count: int) -> None:
    """Every trial of a study told once and none lost, in storage, in the ledger and in tracking."""
    trials = stored(out).get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * count
    records = list(Ledger(out / "studies/smoke").records())
    assert [r.number for r in records] == list(range(count)) and {r.state for r in records} == {"completed"}
    for name in ("requests.parquet", "telemetry.parquet", "engine.log"):
        assert all((out / f"studies/smoke/trials/{n:04d}" / name).is_file() for n in range(count)), name
    children = Counter(r.data.tags["trial"] for r in runs(out) if "mlflow.parentRunId" in r.data.tags)
    assert children == {str(n): 1 for n in range(count)}


@pytest.mark.slow
def test_workers_and_nodes_are_killed_and_every_trial_is_told_once(
    simulated: list[str], tmp_path: Path, nodes: Nodes
) -> None:
    nodes.have(2)
    sets = [f"executor.cpu_sets=['{HERE[0]}','{HERE[1]}']"] if len(HERE) > 1 else []
    process, heard = start([*simulated, *on(nodes), *sets, "study.trials=6"]), list[str]()
    lines_until(process, r"^trial 2 ", heard)
    assert "2 workers on the Ray cluster" in "".join(heard)
    victims = actors()
    assert len(victims) == 2
    victims[0].kill()
    lines_until(process, r"^  trial \d+ lost its worker|^trial 2 lost|lost its worker", heard)
    lines_until(process, r"^trial 4 ", heard)
    nodes.kill()
    lines_until(process, r"^trial 5 ", heard)
    nodes.have(2)
    out, err = process.communicate(timeout=280)
    message = "".join(heard) + out
    assert process.returncode == 0, message + err
    told_once(tmp_path / "out", 7)
    assert message.count("it is run again") >= 1
    assert gone(str(tmp_path)) and not engines()


@pytest.mark.slow
def test_the_end_of_the_driver_is_the_end_of_its_engines(simulated: list[str], tmp_path: Path, nodes: Nodes) -> None:
    nodes.have(2)
    process = start([*simulated, *on(nodes), "study.trials=3"])
    try:
        lines_until(process, r"^trial 1 ", [])
        while not (actors() and engines()):
            time.sleep(0.1)  # the module's timeout ends this
    finally:
        process.kill()
        process.communicate()
    while engines() or actors():
        time.sleep(0.1)  # the module's timeout ends this


def refused(overrides: list[str], out: Path, script: str = "-m optimize") -> str:
    done = subprocess.run(
        [sys.executable, *script.split(), *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert not (out / "optuna.db").exists() and {p.name for p in (out / "studies/smoke").iterdir()} <= {"lock"}
    return done.stderr


def test_a_cluster_that_is_not_there(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    message = refused([*simulated, "executor=ray", f"executor.address={address}"], tmp_path / "out")
    assert f"executor.address={address}: no Ray cluster answers there" in message


@pytest.mark.slow
def test_a_cluster_without_room(simulated: list[str], tmp_path: Path, nodes: Nodes) -> None:
    message = refused([*simulated, *on(nodes), "executor.gpus_per_engine=1"], tmp_path / "out")
    assert "no node with room for one worker (CPU 1, GPU 1)" in message


@pytest.mark.slow
def test_a_worker_without_vllm(simulated: list[str], tmp_path: Path, nodes: Nodes) -> None:
    """Its node's Python finds no vLLM: a module that hides it is on the workers' path, and not on the driver's."""
    nodes.have(1)
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(
        "import importlib.util, os\n"
        "found = importlib.util.find_spec\n"
        "def find_spec(name, package=None):\n"
        "    return None if name == 'vllm' and 'RAY_RAYLET_PID' in os.environ else found(name, package)\n"
        "importlib.util.find_spec = find_spec\n"
    )
    driver = tmp_path / "driver.py"
    driver.write_text(
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"os.environ['PYTHONPATH'] = {str(hiding)!r}\nfrom optimize.__main__ import main\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    message = refused([*simulated, *on(nodes)], tmp_path / "out", str(driver))
    assert "vLLM is not installed" in message
