"""What the first page shows of studies in every state, from their files alone."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from objectives import Direction
from optimize.files import read_json
from optimize.report.matrix import write_matrix
from optimize.study import status
from optimize.study.confirmation import recommendation
from optimize.study.info import StudyInfo
from optimize.study.rows import row_of
from optimize.testing.made_up_study import DIRECTIONS, made_up_study
from optimize.ui.pages import Card, duration, page
from optimize.ui.picture import kinds_of, picture
from optimize.ui.studies import Entry, Studies
from tests.hostile import ATTACK, hostile_study
from tests.optimize.ui.test_site import strange, trial


def reported(out: Path) -> Path:
    """Write a made-up study with its matrix to an output folder; returns the study's own."""
    folder = out / "studies/made-up"
    study, _ = made_up_study(folder, 24)
    directions = {name: Direction(way) for name, way in DIRECTIONS.items()}
    tags = {"study": "made-up", "scenario": "chat", "model": "made up"}
    StudyInfo(directions=directions, tags=tags, signature={"engine": "simulated"}).write(folder)
    best = recommendation(study)
    assert best is not None
    for place in (folder / "report", out):
        write_matrix([row_of(study, best)], place)
    return folder


@pytest.fixture(scope="module")
def output_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with one made-up study that has its report."""
    out = tmp_path_factory.mktemp("out")
    reported(out)
    return out


@pytest.fixture
def entry(output_folder: Path) -> Entry:
    return Studies(output_folder).entries()[0]


def shown(out: Path) -> str:
    reader = Studies(out)
    return page(reader.entries(), reader.matrix(), "http://m", "http://o")


def add(out: Path, name: str, *trials: dict[str, Any], **about: Any) -> Path:
    """A study's folder with these trials."""
    folder = out / "studies" / name
    folder.mkdir(parents=True)
    directions = {"qps": "maximize", "p99_latency_s": "minimize"}
    (folder / "about.json").write_text(json.dumps({"tags": {"model": "demo"}, "directions": directions, **about}))
    for record in trials:
        path = folder / f"trials/{record['number']:04d}"
        path.mkdir(parents=True)
        (path / "trial.json").write_text(json.dumps(record))
    return folder


def test_a_recommendation_is_shown_with_its_gains_and_their_intervals(output_folder: Path, entry: Entry) -> None:
    assert entry.result is not None and not entry.result.is_default
    text = shown(output_folder)
    for name, value in entry.result.settings.items():
        assert f"<dt>{name}</dt><dd>{value}" in text
    assert "by single, unconfirmed measurements: its weighted score is" in text and "(95\u00a0%\u00a0CI\u00a0" in text
    assert "<strong>Simulated.</strong>" in text and "simulated: no measurement</small>" in text
    looks = {look for *_, look in Card(entry, "", "").gains}
    assert looks <= {"better", "worse", "even"} and len(Card(entry, "", "").gains) == len(DIRECTIONS)
    assert '<section id="matrix">' in text and "1 of" not in text


def test_the_data_type_that_vllm_chose_stands_beside_the_recipe(
    output_folder: Path, entry: Entry, tmp_path: Path
) -> None:
    rows = json.loads((output_folder / "matrix.json").read_text())
    recipe = rows[0]["params"]["quantization"]
    rows[0]["settings"] = {**rows[0]["params"], "quantization": f"{recipe} (bfloat16)"}
    (tmp_path / "matrix.json").write_text(json.dumps(rows))
    assert f">{recipe} (bfloat16)</td>" in shown(tmp_path)
    assert entry.result is not None and entry.result.settings["quantization"] == recipe


def test_the_picture_has_the_front_the_defaults_and_the_recommendation(entry: Entry) -> None:
    kinds = kinds_of(entry)
    assert entry.result is not None and kinds[entry.result.number] == "pick" and kinds[0] in ("base", "pick")
    drawing = picture(entry)
    assert drawing is not None and drawing.svg().count('class="m ') == len(kinds)
    assert picture(replace(entry, trials=entry.trials[:1])) is None
    assert picture(replace(entry, directions={"qps": Direction.MAXIMIZE})) is None


def test_a_running_study_shows_its_trial_its_phase_its_best_and_its_end(output_folder: Path) -> None:
    folder = output_folder / "studies/made-up"
    with status.recorded(folder):
        now = time.time()
        status.update(
            folder, done=7, total=25, trial="trial 7 (8 of 25): batch_size=64", phase="measuring", phase_at=now - 61,
            best="trial 3 (1.4× vLLM's defaults)", ends_at=now + 12.4 * 60,
        )  # fmt: skip
        text = shown(output_folder)
    parts = [
        'state running">running', "7 of 25 trials", "trial 7 (8 of 25): batch_size=64", "measuring, for 1 min",
        "trial 3 (1.4× vLLM&#39;s defaults)", "in about 12 min", 'value="28"', "by the last report",
    ]  # fmt: skip
    assert [part for part in parts if part not in text] == []
    assert 'state finished">finished' in shown(output_folder) and "7 of 25 trials" not in shown(output_folder)


def test_a_killed_study_is_interrupted_and_a_failed_one_says_why(tmp_path: Path) -> None:
    killed, failed = add(tmp_path, "killed"), add(tmp_path, "failed")
    with pytest.raises(ValueError, match="gave no"), status.recorded(failed):
        raise ValueError("the baseline gave no measurement")
    with status.recorded(killed):
        running = json.loads((killed / status.FILE).read_text())
    (killed / status.FILE).write_text(json.dumps({**running, "ticks": 1}))
    states = {e.name: e.state for e in Studies(tmp_path).entries()}
    assert states == {"killed": "interrupted", "failed": "failed"}
    assert "The same command resumes it." in shown(tmp_path)
    assert "the baseline gave no measurement" in shown(tmp_path)


def test_a_copied_study_keeps_the_date_of_its_last_trial_or_session(tmp_path: Path) -> None:
    ended = datetime(2026, 3, 4, 15, 30).timestamp()
    folder = add(tmp_path, "chat", {**trial(0, "baseline", qps=10.0), "ended_at": ended - 60})
    (folder / "trials/0000/trial.json").touch()
    confirming = {**trial(1, "confirmation", qps=10.0), "ended_at": ended - 70}
    add(tmp_path, "confirmed", trial(0, "baseline", qps=10.0), confirming, {**confirming, "number": 2})
    assert "demo · 1 trial, 2 confirming measurements · 2026-03-04 15:28" in shown(tmp_path)
    assert "demo · 1 trial · 2026-03-04 15:29" in shown(tmp_path)
    with status.recorded(folder):
        session = json.loads((folder / status.FILE).read_text())
    (folder / status.FILE).write_text(json.dumps({**session, "state": "finished", "updated_at": ended}))
    assert "demo · 1 trial · 2026-03-04 15:30" in shown(tmp_path)


def test_studies_come_first_and_what_is_none_is_listed_below(tmp_path: Path) -> None:
    old = add(tmp_path, "chat", trial(0, "baseline", qps=10.0))
    os.utime(old / "about.json", (1e9, 1e9))
    add(tmp_path, "measure-20260101-000000", trial(0, "measurement", qps=12.5))
    add(tmp_path, "table-quality-demo-20260101-000000", trial(0, "table", qps=1.0))
    add(tmp_path, "certify-chat-0123abcd", trial(0, "certification", qps=1.0))
    add(tmp_path, "measure-of-mine", trial(0, "baseline", qps=1.0))
    kinds = {e.name.partition("-2026")[0]: e.kind for e in Studies(tmp_path).entries()}
    assert kinds == {
        "chat": "study", "measure": "measurement", "table-quality-demo": "table",
        "certify-chat-0123abcd": "certificate", "measure-of-mine": "study",
    }  # fmt: skip
    text = shown(tmp_path)
    assert text.count("<article") == len(["chat", "measure-of-mine"]) and "QPS 12.5" in text
    places = [text.index(part) for part in (">chat<", "<h2>Measurements", ">measure-2026", "<h2>Tables", "<h2>Cert")]
    assert places == sorted(places)


def test_a_damaged_file_is_named_and_hides_nothing_else(tmp_path: Path) -> None:
    add(tmp_path, "sound", trial(0, "baseline", qps=10.0, p99_latency_s=1.0), trial(1, qps=11.0, p99_latency_s=1.0))
    bad = add(tmp_path, "bad", trial(0, "baseline", qps=10.0), trial(1, qps=11.0))
    (bad / "trials/0001/trial.json").write_text('{"state": "completed", "number"')
    (bad / status.FILE).write_text("[]")
    (bad / "report").mkdir()
    (bad / "report/matrix.json").write_text('[{"study": 1}]')
    reader = Studies(tmp_path)
    by_name = {e.name: e for e in reader.entries()}
    assert by_name["sound"].damage == [] and picture(by_name["sound"]) is not None
    assert [t.number for t in by_name["bad"].trials] == [0]
    assert [Path(line.split()[0]).name for line in by_name["bad"].damage] == [
        "trial.json",
        "matrix.json",
        "status.json",
    ]
    assert shown(tmp_path).count('<p class="caution">') == len(by_name["bad"].damage)


def test_a_damaged_matrix_over_all_studies_is_named_on_the_page(tmp_path: Path) -> None:
    reported(tmp_path)
    assert "is missing" not in shown(tmp_path) and 'id="matrix"' in shown(tmp_path)
    (tmp_path / "matrix.json").write_text('[{"study": 1}]')
    text = shown(tmp_path)
    assert text.count("The matrix over all studies is missing: ") == 1 and 'id="matrix"' not in text
    assert "Deploy this configuration" in text  # the study's own is sound


def test_a_file_is_read_once_for_each_of_its_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = add(tmp_path, "chat", trial(0, "baseline", qps=10.0), trial(1, qps=11.0))
    names: list[str] = []

    def noted(path: Path, remedy: str) -> dict[str, Any]:
        names.append(path.name)
        return read_json(path, remedy)

    monkeypatch.setattr("optimize.ui.studies.read_json", noted)
    reader = Studies(tmp_path)
    reader.entries()
    assert sorted(names) == ["about.json", "trial.json", "trial.json"]
    reader.entries()
    assert len(names) == len(["about", "0", "1"])
    (folder / "trials/0001/trial.json").write_text(json.dumps(trial(1, qps=12.25)))
    assert reader.entries()[0].trials[1].estimates["qps"].value == 12.25
    assert names[3:] == ["trial.json"]


def test_no_text_of_a_study_is_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "studies" / "hostile"
    facts = hostile_study(folder, monkeypatch)
    StudyInfo(directions=facts.directions, tags={"model": ATTACK, "scenario": ATTACK}).write(folder)
    write_matrix(facts.rows, folder / "report")
    write_matrix(facts.rows, tmp_path)
    with status.recorded(folder):
        status.update(folder, trial=ATTACK, phase=ATTACK, best=ATTACK, total=3)
        assert strange(shown(tmp_path)) == set() and "attacked=1" in shown(tmp_path)
    with pytest.raises(ValueError, match="script"), status.recorded(folder):
        raise ValueError(ATTACK)
    assert strange(shown(tmp_path)) == set()


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (40.4, "40 s"), (61, "1 min"), (3599, "1 h 0 min"), (3900, "1 h 5 min")]
)
def test_durations_are_read_in_the_unit_of_their_size(seconds: float, text: str) -> None:
    assert duration(seconds) == text
