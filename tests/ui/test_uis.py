"""The pages that scripts/ui starts, in a browser: MLflow, Optuna's dashboard and the page that links them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from optimize.report.dataframes import read_study
from optimize.report.loader import gather
from optimize.report.page import draw, html
from tests.browser import CHROMIUM, Browser
from tests.made import QUICK, ROOT, make_study
from tests.optimize.ui.raw import request

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(600),  # the first of these tests makes the studies
]


@dataclass(frozen=True)
class Uis:
    """Addresses of the three servers, and the studies they show."""

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
        with closing(sqlite3.connect(self.out / "mlflow.db")) as db:
            result = db.execute("select experiment_id from experiments where name = 'optimize'").fetchone()
        return f"{self.mlflow}/#/experiments/{result[0]}"

    @property
    def dashboard(self) -> str:
        with closing(sqlite3.connect(self.out / "optuna.db")) as db:
            result = db.execute("select study_id from studies where study_name = ?", (self.study,)).fetchone()
        return f"{self.optuna}/dashboard/studies/{result[0]}"


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
    ports = {"PAGES_PORT": pages, "MLFLOW_PORT": mlflow, "OPTUNA_PORT": optuna, "OUTPUT_DIR": str(out)}
    process = subprocess.Popen(
        ["scripts/ui"], cwd=ROOT, env={**os.environ, **ports, "SKIP_INSTALL": "1"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        lines = [line for line in iter(process.stdout.readline, "Ctrl-C stops all three.\n") if line]
        assert f"http://127.0.0.1:{pages}" in lines[0]
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


@pytest.fixture(scope="module")
def uis(made_studies: Path) -> Iterator[Uis]:
    """Over studies that needed no engine: pages read what storage and tracking hold, whoever measured it."""
    with served(made_studies, "chat") as running:
        yield running


def says(text: str) -> str:
    """Condition that the page shows this text."""
    return f"document.body.innerText.includes({json.dumps(text)})"


def test_all_servers_listen_on_loopback_only(uis: Uis) -> None:
    listening = [
        c.laddr.ip
        for p in [uis.process, *uis.process.children(recursive=True)]
        for c in p.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    ]
    assert listening and set(listening) == {"127.0.0.1"}


def test_no_page_but_their_own_reaches_the_servers(uis: Uis) -> None:
    addresses = {
        "/": uis.pages,
        "/api/studies/1": uis.optuna,
        "/api/2.0/mlflow/experiments/get?experiment_id=0": uis.mlflow,
    }
    for path, address in addresses.items():
        port = int(address.rpartition(":")[2])
        for line in (f"DELETE {path}", f"POST {path}", f"GET {path}"):
            for host, origin in (
                ("evil.example", ()),
                ("10.evil.example", ()),
                ("localhost", ("Origin: http://evil.example",)),
            ):
                assert request(port, line, *origin, host=host).status == 403, (line, host)
        assert request(port, f"GET {path}").status == 200
    port = int(uis.mlflow.rpartition(":")[2])
    assert request(port, "POST /graphql", "Origin: http://localhost:9", host="localhost").status == 403
    assert request(port, "GET /version", host="evil.example").status == 403


def test_one_page_leads_to_everything(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(uis.pages)
        assert page.run("document.querySelectorAll('article').length") == len(list((uis.out / "studies").iterdir()))
        targets = page.run("[...document.querySelectorAll('article a')].map(a => a.href)")
        assert f"{uis.experiment}/runs/{uis.parent}" in targets and uis.dashboard in targets
        assert page.complaints == []
        page.click(f'a[href="studies/{uis.study}/report/pareto.html"]')
        page.wait_for("document.querySelectorAll('.js-plotly-plot .point').length > 0")


def test_the_page_fits_a_phone(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(uis.pages, width=390)
        assert page.run("document.documentElement.scrollWidth") <= 390


def test_mlflow_lists_a_study_by_its_tag(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(uis.pages)
        filtered = page.run("[...document.querySelectorAll('article a')].map(a => a.href).filter(h => h.includes('?'))")
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
        page.wait_for(says("value (95 % CI)"))
        page.wait_for(says("engine-log-end.txt"))


def test_the_dashboard_shows_our_pareto_plot(uis: Uis, browser: Browser) -> None:
    with browser.page() as page:
        page.open(uis.dashboard, width=1400)
        page.wait_for(
            "document.querySelectorAll('[id=\\'user-defined-plot:pareto-qps-p99_latency_s\\'] .point').length > 0"
        )


def test_a_click_on_a_trial_of_the_report_opens_its_mlflow_run(uis: Uis, browser: Browser, tmp_path: Path) -> None:
    study, (number, run) = read_study(uis.study, uis.out), (0, uis.children[0])
    facts = gather(study.study, study.ledger, [], [])
    report = tmp_path / "report.html"
    report.write_text(html(facts, draw(facts), uis.mlflow), encoding="utf-8")
    with browser.page() as page:
        page.open(report.as_uri())
        page.click(f'#tradeoffs .panels svg .m[data-t="{number}"]')
        deadline = time.monotonic() + 60
        while not (opened := [a for a in browser.addresses() if f"/runs/{run}" in a]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert opened[0].startswith(uis.mlflow)
    with browser.page() as page:
        page.open(opened[0])
        page.wait_for(says(f"{uis.study}-{number:04d}"))


@contextmanager
def dashboard_of(out: Path) -> Iterator[str]:
    """Optuna's dashboard alone, over a folder's studies; its address."""
    port = _free_ports()[0]
    command = [sys.executable, "-m", "optimize.ui.dashboard", "--folder", str(out), "--port", port]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=1):
                break
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/dashboard"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.slow
def test_the_dashboard_follows_a_study_that_goes_on(browser: Browser, tmp_path: Path, empty_mlflow_db: Path) -> None:
    """In a folder of its own: other tests count the studies of theirs."""
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    overrides = ["+study=chat", *QUICK, "confirm.candidates=0", f"output_dir={tmp_path}", f"cache_dir={tmp_path}/cache"]
    make_study([*overrides, "study.trials=1"])
    with dashboard_of(tmp_path) as dashboard, browser.page() as page:
        page.open(f"{dashboard}/studies/1/trials?numbers=0", width=1400)
        page.wait_for(says("Trial 1"))
        assert page.run(says("Trial 3")) is False
        make_study([*overrides, "study.trials=3"])
        page.wait_for(says("Trial 3"))
