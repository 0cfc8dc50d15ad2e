"""What people see: MLflow's UI, Optuna's dashboard and the page before them, started by scripts/ui, in a browser."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.browser import CHROMIUM, Browser, chromium
from tests.made import QUICK, ROOT

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(600),  # whoever comes first makes the studies
]


@dataclass(frozen=True)
class Uis:
    """Addresses of the three, and what they show."""

    out: Path
    study: str
    pages: str
    mlflow: str
    optuna: str
    process: psutil.Process

    @property
    def parent(self) -> str:
        return _run(self.out / "studies" / self.study)

    @property
    def children(self) -> list[str]:
        return [_run(folder) for folder in sorted((self.out / "studies" / self.study / "trials").iterdir())]

    @property
    def experiment(self) -> str:
        with sqlite3.connect(self.out / "mlflow.db") as db:
            found = db.execute("select experiment_id from experiments where name = 'optimize'").fetchone()
        return f"{self.mlflow}/#/experiments/{found[0]}"

    @property
    def dashboard(self) -> str:
        with sqlite3.connect(self.out / "optuna.db") as db:
            found = db.execute("select study_id from studies where study_name = ?", (self.study,)).fetchone()
        return f"{self.optuna}/dashboard/studies/{found[0]}"


def _run(folder: Path) -> str:
    return str(json.loads((folder / "mlflow.json").read_text())["run_id"])


def _free_ports() -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [str(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def served(out: Path, study: str) -> Iterator[Uis]:
    """scripts/ui over a folder's studies; it must leave no process behind."""
    pages, mlflow, optuna = _free_ports()
    given = {"PAGES_PORT": pages, "MLFLOW_PORT": mlflow, "OPTUNA_PORT": optuna, "OUTPUT_DIR": str(out)}
    process = subprocess.Popen(
        ["scripts/ui"], cwd=ROOT, env={**os.environ, **given, "SKIP_INSTALL": "1"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = [line for line in iter(process.stdout.readline, "Ctrl-C stops all three.\n") if line]
        assert f"http://127.0.0.1:{pages}" in said[0]
        at = "http://127.0.0.1:"
        yield Uis(out, study, at + pages, at + mlflow, at + optuna, psutil.Process(process.pid))
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(timeout=30) == 0
        assert process.stdout is not None
        process.stdout.close()
        gone, alive = psutil.wait_procs(children, timeout=10)
        assert len(gone) >= 3 and alive == []


@pytest.fixture(scope="module", params=["simulated", pytest.param("live", marks=pytest.mark.live)])
def uis(request: pytest.FixtureRequest) -> Iterator[Uis]:
    """Over studies on the simulated engine, then over one on live vLLM."""
    if request.param == "live":
        out, study = request.getfixturevalue("real_smoke").out, "smoke"
    else:
        out, study = request.getfixturevalue("made_studies"), "chat"
    with served(out, study) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


def says(text: str) -> str:
    """A condition: the page shows this text."""
    return f"document.body.innerText.includes({json.dumps(text)})"


def test_all_of_it_is_open_to_this_machine_only(uis: Uis) -> None:
    listening = [
        c.laddr.ip
        for p in [uis.process, *uis.process.children(recursive=True)]
        for c in p.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    ]
    assert listening and set(listening) == {"127.0.0.1"}


def test_one_page_leads_to_everything(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(uis.pages)
        assert page.run("document.querySelectorAll('section').length") == len(list((uis.out / "studies").iterdir()))
        targets = page.run("[...document.querySelectorAll('section a')].map(a => a.href)")
        assert f"{uis.experiment}/runs/{uis.parent}" in targets and uis.dashboard in targets
        assert page.complaints == []
        page.click(f'a[href="studies/{uis.study}/report/pareto.html"]')
        page.wait_for("document.querySelectorAll('.js-plotly-plot .point').length > 0")


def test_nothing_of_the_page_hangs_over_its_edge_on_a_phone(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(uis.pages, width=390)
        assert page.run("document.documentElement.scrollWidth") <= 390


def test_mlflow_lists_a_study_by_its_tag(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(uis.pages)
        filtered = page.run("[...document.querySelectorAll('section a')].map(a => a.href).filter(h => h.includes('?'))")
        page.open(next(address for address in filtered if f"%27{uis.study}%27" in address), width=1400)
        page.wait_for(says(f"{uis.study}-0000-baseline"))
        page.wait_for(says("Training runs"))
        assert page.run(says("bulk-0000-baseline")) is False


def test_mlflow_compares_trials_by_their_knobs(uis: Uis, browser: Browser) -> None:
    runs = json.dumps(uis.children[:3]).replace('"', "%22")
    experiment = uis.experiment.rpartition("/")[2]
    with browser.page() as page:
        page.open(f"{uis.mlflow}/#/compare-runs?runs={runs}&experiments=[%22{experiment}%22]", width=1400)
        page.wait_for(says(f"{uis.study}-0000-baseline"))
        page.wait_for(says("batch_size"))
        page.wait_for("document.querySelectorAll('.parcoords, .js-plotly-plot').length > 0")
        assert page.run(says("run.engine")) is False


def test_mlflow_shows_a_figure_among_the_artifacts(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(f"{uis.experiment}/runs/{uis.parent}/artifacts/report/pareto.html", width=1400)
        page.wait_for("document.querySelector('iframe') !== null")
        assert [a for a in page.asked if a.startswith("http") and "127.0.0.1" not in a and "cdn.plot" in a] == []


def test_mlflow_charts_the_machine_over_a_trial(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(f"{uis.experiment}/runs/{uis.children[0]}/system-metrics", width=1400)
        page.wait_for(says("cpu_cores"))


def test_the_dashboard_shows_a_trials_note(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(f"{uis.dashboard}/trials?numbers=0", width=1400)
        page.wait_for(says("feasible"))
        page.wait_for(says("value [95 % interval]"))
        page.wait_for(says("engine-log-end.txt"))


def test_the_dashboard_shows_our_pareto_plot(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(uis.dashboard, width=1400)
        page.wait_for(
            "document.querySelectorAll('[id=\\'user-defined-plot:pareto-qps-p99_latency_s\\'] .point').length > 0"
        )


@contextmanager
def under_way(out: Path, study: str) -> Iterator[subprocess.Popen[bytes]]:
    """A study on the simulated engine, known to Optuna and MLflow and far from its end."""
    command = [
        sys.executable, "-m", "optimize", "+study=chat", *QUICK, f"study.name={study}", "study.trials=1000",
        f"output_dir={out}", f"cache_dir={out}/cache",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (out / "studies" / study / "mlflow.json").is_file():
            assert process.poll() is None
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait(timeout=60)


def test_the_dashboard_follows_a_study_that_runs(browser: Browser, tmp_path: Path) -> None:
    """In a folder of its own: other tests count the studies of theirs."""
    with under_way(tmp_path, "new") as process, served(tmp_path, "new") as uis, browser.page() as page:
        page.open(f"{uis.dashboard}/trials?numbers=0", width=1400)
        page.wait_for(says("Trial 0"))
        page.wait_for(says("Trial 2"))
        assert process.poll() is None
