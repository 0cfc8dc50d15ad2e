"""The report in a browser: drawn, legible at every width, in the dark and in print, and its interactions."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimize.decision.constraints import Limit, violations
from optimize.decision.recommendation import recommend
from optimize.report.data import Facts
from optimize.report.page import draw, html
from optimize.report.sliders import ranking
from tests.browser import CHROMIUM, Page
from tests.hostile import ATTACK, hostile_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def test_it_opens_offline_without_errors_and_draws_everything(page: Page, report: Path, facts: Facts) -> None:
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


def test_pointing_at_a_trial_shows_its_configuration_and_highlights_it_in_all_figures(
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


def test_classes_can_be_hidden_the_space_turned_and_the_trials_sorted(page: Page, report: Path) -> None:
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


def _moved(page: Page, weights: list[int], limits: list[int]) -> str:
    """Trial that the page picks with its sliders in these positions; empty for none."""
    moved = page.run(f"""(() => {{
        for (const [kind, positions] of Object.entries({{weights: {weights}, limits: {limits}}})) {{
            document.querySelectorAll(`#whatif input[data-kind=${{kind}}]`).forEach((input, i) => {{
                input.value = positions[i];
                input.dispatchEvent(new Event("input"));
            }});
        }}
        return document.getElementById("ranking-pick").dataset.trial;
    }})()""")
    return str(moved)


def _decided(facts: Facts, ranks: dict[str, Any], weights: list[int], limits: list[int]) -> str:
    """The same by `recommend`."""
    values = [
        w["value"] if at == w["at"] else w["most"] * at / 200 for w, at in zip(ranks["weights"], weights, strict=True)
    ]
    bounds = []
    for limit, at in zip(ranks["limits"], limits, strict=True):
        value = limit["low"] * (limit["high"] / limit["low"]) ** (at / 200)
        value = limit["value"] if at == limit["at"] else None if at == (200 if limit["upper"] else 0) else value
        if value is not None:
            metric, _, end = limit["key"].removeprefix("constraints.").partition(".")
            bounds.append(Limit(metric, limit["upper"], value, end.endswith("_ratio")))
    baseline = next(c for c in facts.candidates if c.baseline).estimates
    judged = [
        replace(c, feasible=all(v <= 0 for v in violations(bounds, c.estimates, baseline, c.ratios).values()))
        for c in facts.candidates
    ]
    assert facts.recommendation is not None
    weights_of = dict(zip(facts.directions, values, strict=True))
    best = recommend(judged, facts.directions, weights_of, simple=facts.recommendation.simple)
    return "" if best is None else str(best.pick.number)


def _with_simple_form(facts: Facts) -> Facts:
    """The same trials, the runner-up being a form of the best one with fewer changes."""
    best = facts.recommendation
    assert best is not None and best.runner_up is not None
    simple = {best.pick.number: best.runner_up.number}
    return replace(facts, recommendation=recommend(best.considered, facts.directions, facts.weights, simple=simple))


def test_sliders_rank_as_a_study_decides_and_go_back(page: Page, facts: Facts, tmp_path: Path) -> None:
    best, facts = facts.recommendation, _with_simple_form(facts)
    (tmp_path / "report.html").write_text(html(facts, draw(facts), ""), encoding="utf-8")
    page.open((tmp_path / "report.html").as_uri())
    assert best is not None and facts.recommendation is not None
    assert page.run("document.querySelector('#ranking tr.chosen').innerText").endswith("with fewer changes")
    ranks, rng = ranking(facts), random.Random(0)
    assert ranks is not None
    own = [[slider["at"] for slider in ranks[kind]] for kind in ("weights", "limits")]
    picks = {_moved(page, *own)}
    assert picks == {str(facts.recommendation.pick.number)} != {str(best.pick.number)}
    for _ in range(25):
        positions = [[rng.choice([at, rng.randrange(201)]) for at in kind] for kind in own]
        picks.add(_moved(page, *positions))
        assert _moved(page, *positions) == _decided(facts, ranks, *positions), positions
    assert len(picks) > 4 and "" in picks
    assert page.run("document.querySelectorAll('#ranking tr.chosen').length") <= 1
    page.click("#whatif button.reset")
    assert page.run("document.getElementById('ranking-pick').dataset.trial") == str(facts.recommendation.pick.number)
    assert page.run("document.querySelector('#whatif output').textContent") == "1 (11 %)"
    assert page.complaints == []


@pytest.mark.parametrize("width", [360, 390, 768, 1001, 1200])
def test_nothing_overflows_sideways_at_any_width(page: Page, report: Path, width: int) -> None:
    """Only the parallel coordinates of a phone scroll, in a region of their own; every table fits."""
    page.open(report.as_uri(), width=width, height=800)
    assert page.run("document.documentElement.scrollWidth") <= width
    wide = page.run("""[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)
        .map(e => e.getAttribute('aria-label'))""")
    assert wide == (["Parallel coordinates"] if width < 1001 else [])
    outside = page.run("""(() => {
        const right = el => el.getBoundingClientRect().right + 1;
        const box = el => el.parentElement.closest('.tile, section');
        return [...document.querySelectorAll('table.cards, .tile *')].filter(el => right(el) > right(box(el)) + 1)
            .map(el => el.textContent);
    })()""")
    assert outside == []
    tall = page.run("""[...document.querySelectorAll('.tile .value')].filter(
        v => v.getBoundingClientRect().height > 2 * parseFloat(getComputedStyle(v).fontSize)).map(v => v.innerText)""")
    assert tall == []
    small = page.run("""[...document.querySelectorAll('.panels svg text')].filter(
        t => t.getBoundingClientRect().height > 0 && parseFloat(getComputedStyle(t).fontSize)
             * t.closest('svg').getScreenCTM().a < 9).length""")
    assert small == 0


def test_no_text_of_a_study_runs(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = hostile_study(tmp_path / "study", monkeypatch)
    hostile = tmp_path / "report.html"
    hostile.write_text(html(facts, draw(facts), "http://127.0.0.1:5000"), encoding="utf-8")
    page.open(hostile.as_uri())
    page.click("#trials summary")
    page.wait_for("document.querySelectorAll('#every tbody tr').length > 0")
    recipe = next(c.number for c in facts.candidates if ATTACK in str(c.params["quantization"]))
    page.point_at(f'#tradeoffs .panels svg .m[data-t="{recipe}"]')
    assert "<script>attacked" in page.run("document.getElementById('tip').innerText")
    assert page.run("[typeof attacked, document.images.length].join()") == "undefined,0"
    assert page.complaints == [] and [address for address in page.asked if "evil.example" in address] == []


def test_dark_mode_is_dark_and_print_has_pages(page: Page, report: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    text = "getComputedStyle(document.body).color.match(/\\d+/g).map(Number)"
    page.open(report.as_uri())
    assert min(page.run(ground)) > 240 and max(page.run(text)) < 60
    page.open(report.as_uri(), dark=True)
    assert max(page.run(ground)) < 40 and min(page.run(text)) > 200
    printed = page.pdf()
    assert printed.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20
