"""The page that links every study and the reports, over HTTP and over raw sockets, which send a path as it is."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from optimize.report.environment import script_digest
from optimize.ui.access import access
from optimize.ui.guard import GuardedWsgi
from optimize.ui.pages import page, script
from optimize.ui.site import Site
from optimize.ui.studies import Studies
from tests.hostile import elements, targets
from tests.optimize.ui.raw import Answer, request, serving


def trial(number: int, role: str = "search", state: str = "completed", **figures: float) -> dict[str, Any]:
    """What the page reads of a trial's record."""
    estimates = {name: {"value": v, "low": v, "high": v, "n": 1, "unit": ""} for name, v in figures.items()}
    baseline = role == "baseline"
    return {
        "number": number, "role": role, "state": state, "feasible": True, "baseline": baseline, "estimates": estimates,
    }  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder of two studies: one tracked and reported, one that only just began."""
    for name in ("chat", "bulk"):
        (tmp_path / "studies" / name / "trials/0000").mkdir(parents=True)
        about = {"tags": {"study": name, "scenario": name, "model": "demo"}}
        (tmp_path / "studies" / name / "about.json").write_text(json.dumps(about))
    chat = tmp_path / "studies/chat"
    (chat / "trials/0000/trial.json").write_text(json.dumps(trial(0, "baseline", qps=10.0, p99_latency_s=2.0)))
    (chat / "mlflow.json").write_text(json.dumps({"run_id": "abc", "complete": True}))
    (chat / "report").mkdir()
    (chat / "report/pareto.html").write_text("a figure")
    (chat / "secret.txt").write_text("not for the page")
    (tmp_path / "matrix.md").write_text("the matrix")
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as db, db:
        db.execute("create table studies (study_name text, study_id integer)")
        db.execute("insert into studies values ('chat', 7)")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db, db:
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
    bulk = next(e for e in Studies(out).entries() if e.name == "bulk")
    assert (bulk.trials, bulk.state, bulk.run, bulk.number, bulk.reports) == ([], "interrupted", None, None, [])


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


def test_the_page_runs_its_own_script_and_reports_run_theirs_without_an_origin(port: int) -> None:
    for path, policy in (
        ("/", "default-src 'none'; style-src"),
        ("/studies/chat/report/pareto.html", "sandbox allow-s"),
    ):
        headers = request(port, f"GET {path}").headers
        assert headers["content-security-policy"].startswith(policy)
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "SAMEORIGIN")
    policy = request(port, "GET /").headers["content-security-policy"]
    assert f"; script-src '{script_digest(script())}'; connect-src 'self'" in policy and policy.count("script-src") == 1
    assert request(port, "GET /nothing").headers["content-security-policy"].count("script-src") == 0


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
        assert shown.status == 200 and strange(shown.body) == set(), about


def test_names_of_studies_and_files_are_text(port: int, out: Path) -> None:
    name = "<img src=x onerror=alert(1)> '\" & # ? %2f \udcff"
    report = out / "studies" / name / "report"
    report.mkdir(parents=True)
    (report.parent / "about.json").write_text("{}")
    (report / os.fsdecode(b"<b onclick=1>'\xff.html")).write_text("odd")
    shown = request(port, "GET /")
    assert shown.status == 200 and strange(shown.body) == set()
    target = next(href for href in targets(shown.body) if "onclick" in href)
    assert request(port, f"GET /{target}").body == "odd"


HARMLESS = {
    ("html", "lang"), ("head",), ("meta", "charset"), ("meta", "name"), ("meta", "content"), ("link", "rel"),
    ("link", "href"), ("title",), ("style",), ("body", "class"), ("main",), ("header",), ("footer",),
    ("article", "class"), ("section",), ("section", "id"), ("h1",), ("h2",), ("h3",), ("h4",), ("div",),
    ("div", "class"), ("p",),
    ("p", "class"), ("p", "role"), ("nav", "class"), ("a", "href"), ("b",), ("b", "class"), ("strong",), ("small",),
    ("br",), ("code",), ("dl",), ("dl", "class"), ("dt",), ("dd",), ("progress", "max"), ("progress", "value"),
    ("table", "class"), ("thead",), ("tbody",), ("tr",), ("th",), ("th", "class"), ("td",), ("td", "class"),
    ("td", "data-label"), ("figure",), ("figcaption",), ("span",), *((drawn, name) for drawn, names in {
        "svg": ("class", "role", "aria-label", "viewbox"), "path": ("class", "d", "transform"),
        "circle": ("class", "r", "transform"), "text": ("class", "x", "y", "text-anchor", "font-size"),
    }.items() for name in names),
}  # fmt: skip


def strange(body: str) -> set[tuple[str, ...]]:
    """Elements and attributes of the page that its template does not have; its one script is taken out before."""
    element = f"<script>{script()}</script>"
    assert body.count(element) == 1
    return elements(body.replace(element, "")) - HARMLESS


def test_an_element_that_the_template_does_not_have_is_seen() -> None:
    element = f"<script>{script()}</script>"
    assert strange(f"<p>{element}<script>alert(1)</script>") == {("script",)}
    assert strange(f"<p onclick=alert(1)>{element}") == {("p", "onclick")}


def test_without_studies_the_page_names_the_command_for_a_first_one(tmp_path: Path) -> None:
    assert "python -m optimize +study=smoke" in page(Studies(tmp_path).entries(), ([], []), "m", "o")
