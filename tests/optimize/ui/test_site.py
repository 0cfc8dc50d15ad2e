"""The page that links every study and the reports, over HTTP and over raw sockets, which send a path as it is."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from optimize.ui.access import access
from optimize.ui.guard import GuardedWsgi
from optimize.ui.pages import entries, page
from optimize.ui.site import Site
from tests.hostile import elements, targets
from tests.optimize.ui.raw import Answer, request, serving


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
def port(out: Path) -> Iterator[int]:
    site = Site(out, "http://127.0.0.1:5000", "http://127.0.0.1:8080")
    with serving(GuardedWsgi(site, access())) as listening:
        yield listening


@pytest.fixture
def http(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client


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


OUTSIDE = [
    "/studies/chat/secret.txt", "/optuna.db", "/studies/", "/%2e%2e/etc/passwd", "/../etc/passwd",
    "/studies/chat/report/..%2f..%2f..%2foptuna.db", "/studies/chat/report/%00", "/%00", "/%ff", "//etc/passwd", "//[",
    "/studies/chat/report/pareto.html%00.html", "/studies/chat/report/link.html", "/studies/chat/report/away.html",
    "/studies/chat/report/sub/deep.html", f"/{'a' * 5000}", "/studies/chat/report/" + "%2e%2e%2f" * 40 + "etc/passwd",
]  # fmt: skip


def test_nothing_but_the_reports_is_served(port: int, out: Path) -> None:
    report = out / "studies/chat/report"
    (report / "link.html").symlink_to("/etc/passwd")
    (report / "away.html").symlink_to("../secret.txt")
    (report / "sub").mkdir()
    (report / "sub/deep.html").write_text("not listed")
    assert [path for path in OUTSIDE if request(port, f"GET {path}").status != 404] == []


def test_pages_are_read_only(port: int) -> None:
    methods = ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW")
    assert {request(port, f"{method} /").status for method in methods} == {405}
    assert request(port, "HEAD /") == Answer(200, request(port, "GET /").headers, "")


def test_pages_run_no_scripts_and_reports_run_theirs_without_an_origin(port: int) -> None:
    for path, policy in (
        ("/", "default-src 'none'; style-src"),
        ("/studies/chat/report/pareto.html", "sandbox allow-s"),
    ):
        headers = request(port, f"GET {path}").headers
        assert headers["content-security-policy"].startswith(policy)
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "SAMEORIGIN")


ODD = [
    "[]", "null", '{"tags": []}', '{"tags": ["<b>"]}', '{"tags": {"scenario": {"a": [1]}, "model": null}}', "\x00", "",
    '{"tags": {"scenario": "<script>alert(1)</script>", "model": "\' onmouseover=alert(1) \""}}', "[" * 100_000,
    '{"tags": "\\ud800"}', '{"tags": {"model": "\\ud800"}}',
]  # fmt: skip


def test_whatever_a_study_says_of_itself_is_text(port: int, out: Path) -> None:
    (out / "studies/chat/mlflow.json").write_text('{"run_id": ["abc"]}')
    for about in ODD:
        (out / "studies/bulk/about.json").write_text(about)
        shown = request(port, "GET /")
        assert shown.status == 200 and elements(shown.body) <= HARMLESS, about


def test_names_of_studies_and_files_are_text(port: int, out: Path) -> None:
    name = "<img src=x onerror=alert(1)> '\" & # ? %2f \udcff"
    report = out / "studies" / name / "report"
    report.mkdir(parents=True)
    (report.parent / "about.json").write_text("{}")
    (report / os.fsdecode(b"<b onclick=1>'\xff.html")).write_text("odd")
    shown = request(port, "GET /")
    assert shown.status == 200 and elements(shown.body) <= HARMLESS
    target = next(href for href in targets(shown.body) if "onclick" in href)
    assert request(port, f"GET /{target}").body == "odd"


HARMLESS = {
    ("html", "lang"), ("meta", "charset"), ("meta", "name"), ("meta", "content"), ("link", "rel"), ("link", "href"),
    ("title",), ("style",), ("h1",), ("h2",), ("nav",), ("a", "href"), ("section",), ("p", "class"),
}  # fmt: skip


def test_without_studies_the_page_names_the_command_for_a_first_one(tmp_path: Path) -> None:
    assert "python -m optimize +study=smoke" in page(entries(tmp_path), "m", "o")
