"""The page that links every study, over HTTP."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from optimize.ui import entries, page, server


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder of two studies: one tracked and reported, one that only just began."""
    for name in ("chat", "bulk"):
        (tmp_path / "studies" / name / "trials/0000").mkdir(parents=True)
        about = {"tags": {"study": name, "scenario": name, "model": "demo"}}
        (tmp_path / "studies" / name / "about.json").write_text(json.dumps(about))
    chat = tmp_path / "studies/chat"
    (chat / "trials/0000/trial.json").write_text("{}")
    (chat / "mlflow.json").write_text(json.dumps({"run_id": "abc", "complete": True}))
    (chat / "report").mkdir()
    (chat / "report/pareto.html").write_text("a figure")
    (chat / "secret.txt").write_text("not for the page")
    (tmp_path / "matrix.md").write_text("the matrix")
    with sqlite3.connect(tmp_path / "optuna.db") as db:
        db.execute("create table studies (study_name text, study_id integer)")
        db.execute("insert into studies values ('chat', 7)")
    with sqlite3.connect(tmp_path / "mlflow.db") as db:
        db.execute("create table runs (run_uuid text, experiment_id integer)")
        db.execute("insert into runs values ('abc', 3)")
    return tmp_path


@pytest.fixture
def http(out: Path) -> Iterator[httpx.Client]:
    with server(out, 0, "http://127.0.0.1:5000", "http://127.0.0.1:8080") as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{serving.server_port}") as client:
            yield client
        serving.shutdown()
        thread.join()


def test_a_study_links_its_report_its_runs_and_its_dashboard(http: httpx.Client) -> None:
    text = http.get("/").text
    assert "http://127.0.0.1:5000/#/experiments/3/runs/abc" in text
    assert "searchFilter=tags.study%20%3D%20%27chat%27%20and%20" in text
    assert "http://127.0.0.1:8080/dashboard/studies/7" in text
    assert http.get("/studies/chat/report/pareto.html").text == "a figure"
    assert http.get("/matrix.md").text == "the matrix"


def test_a_study_that_has_just_begun_has_no_links(out: Path) -> None:
    bulk = next(e for e in entries(out) if e.name == "bulk")
    assert (bulk.trials, bulk.ended, bulk.run, bulk.number, bulk.reports) == (0, False, None, None, [])


@pytest.mark.parametrize("path", ["/studies/chat/secret.txt", "/optuna.db", "/studies/", "/%2e%2e/etc/passwd"])
def test_nothing_but_the_reports_is_served(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_a_foreign_host_name_is_refused(http: httpx.Client) -> None:
    assert http.get("/", headers={"Host": "evil.example"}).status_code == 403


def test_without_studies_the_page_names_the_command_for_a_first_one(tmp_path: Path) -> None:
    assert "python -m optimize +study=smoke" in page(entries(tmp_path), "m", "o")
