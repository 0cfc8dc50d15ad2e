"""The first page of scripts/ui in a browser: it follows a study that runs, at every width, in light and dark."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.study import status
from optimize.ui.access import access
from optimize.ui.guard import GuardedWsgi
from optimize.ui.site import Site
from tests.browser import CHROMIUM, Page
from tests.optimize.ui.raw import serving
from tests.optimize.ui.test_pages import add, reported
from tests.optimize.ui.test_site import trial
from tests.ui.test_uis import says

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def lengthen_intervals(matrix: Path) -> None:
    """Give each gain of a matrix an interval of many digits."""
    rows = json.loads(matrix.read_text(encoding="utf-8"))
    for gain in rows[0]["gains_over_vllm_defaults"].values():
        gain |= {"value": 1234.56, "low": 1234.41, "high": 1234.72}
    matrix.write_text(json.dumps(rows), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a made-up study with its report, beside a measurement and a study with an endless name."""
    out = tmp_path_factory.mktemp("out")
    add(out, "measure-20260101-000000", trial(0, "measurement", qps=12.5))
    add(out, "a" * 200, trial(0, "baseline", qps=10.0, p99_latency_s=1.0), trial(1, qps=11.0, p99_latency_s=0.9))
    folder = reported(out)
    for matrix in (out / "matrix.json", folder / "report/matrix.json"):
        lengthen_intervals(matrix)
    (folder / "report/report.html").write_text("a report")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    site = Site(folder.parents[1], "http://127.0.0.1:5000", "http://127.0.0.1:8080")
    with serving(GuardedWsgi(site, access())) as port:
        yield f"http://127.0.0.1:{port}/"


def test_it_follows_a_study_from_its_start_to_its_end(page: Page, folder: Path, address: str) -> None:
    page.open(address)
    assert page.run("document.querySelectorAll('.running').length") == 0
    with status.recorded(folder):
        status.update(folder, total=25, done=7, trial="trial 7 (8 of 25)", phase="measuring", phase_at=time.time())
        page.wait_for(says("trial 7 (8 of 25)"))
        assert page.run("document.querySelector('article h2').textContent") == folder.name
        page.run("document.querySelector('article a').focus()")
        status.update(folder, done=8, trial="trial 8 (9 of 25)", best="trial 7 (1.2×)")
        page.wait_for(says("trial 8 (9 of 25)"))
        assert page.run("document.activeElement.tagName") == "A"
        assert page.run(says("trial 7 (8 of 25)")) is False and page.run(says("trial 7 (1.2×)"))
    page.wait_for("document.querySelectorAll('.running').length === 0")
    assert page.complaints == [] and [a for a in page.asked if not a.startswith((address, "data:"))] == []


def test_it_says_that_its_server_is_gone(page: Page, tmp_path: Path) -> None:
    with serving(GuardedWsgi(Site(tmp_path, "m", "o"), access())) as port:
        page.open(f"http://127.0.0.1:{port}/")
        assert page.run(says("no longer answers")) is False
    page.wait_for(says("no longer answers"))


def test_no_other_script_runs(page: Page, address: str) -> None:
    page.open(address)
    page.run(
        "(() => { const s = document.createElement('script'); s.text = 'attacked = 1'; document.body.append(s); })()"
    )
    assert page.run("typeof attacked") == "undefined"
    assert any("Content Security Policy" in text for text in page.complaints)


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_nothing_overflows_or_overlaps_at_any_width(page: Page, folder: Path, address: str, width: int) -> None:
    with status.recorded(folder):
        status.update(
            folder, total=25, done=7, trial="trial 7: " + "knob=value " * 20, phase="measuring", best="x" * 90
        )
        page.open(address, width=width)
        assert page.run("document.querySelectorAll('.running').length") == 1
        assert page.run("document.documentElement.scrollWidth") <= width
        outside = page.run("""[...document.querySelectorAll('article *, td *')].filter(el => {
            const box = el.parentElement.closest('.tile, .now, .settings div, article, td').getBoundingClientRect();
            return !el.closest('svg') && el.getBoundingClientRect().right > box.right + 1;
        }).map(el => el.textContent)""")
        assert outside == []
        assert (
            page.run("[...document.querySelectorAll('.tile')].filter(t => t.scrollWidth > t.clientWidth).length") == 0
        )
        overlapping = page.run("""[...document.querySelectorAll('.body')].filter(el => {
            const boxes = [...el.children].map(child => child.getBoundingClientRect());
            return boxes.length > 1 && boxes[0].right > boxes[1].left && boxes[0].bottom > boxes[1].top;
        }).length""")
        assert overlapping == 0


def test_dark_mode_is_dark(page: Page, address: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    page.open(address)
    assert min(page.run(ground)) > 240
    page.open(address, dark=True)
    assert max(page.run(ground)) < 40
