"""Damaged files of a study: each is named on one line, what can be is restored, and everything else goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from objectives import RequestRecord
from optimize.ledger import Ledger, TrialRecord
from optimize.study.restoration import restore
from optimize.testing.made_up_study import made_up_study
from tests.conftest import Run
from tests.made import code_of, copy_studies, make_study

REQUEST = RequestRecord(0, 1.0, 1.25, 1.5, 2.0, 7, 9, "an answer", None)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:90]),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "a list": lambda path: path.write_text("[]"),
    "a field of another type": lambda path: path.write_text(
        path.read_text().replace('"state": "', '"state": 7, "": "')
    ),
    "a folder": as_folder,
}


def _stored(record: TrialRecord) -> TrialRecord:
    """What the made-up study has in storage too: neither its clock nor its constraints are Optuna's."""
    return replace(record, started_at=0.0, ended_at=0.0, violations={})


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_record_is_restored_from_storage_and_kept(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    study, _ = made_up_study(tmp_path, 3)
    before, path = list(Ledger(tmp_path).records()), tmp_path / "trials/0001/trial.json"
    damage(path)
    ledger = Ledger(tmp_path)
    assert [r.number for r in ledger.records()] == [0, 2], "the others are read"
    (line,) = ledger.damage.values()
    assert line.startswith(f"{path} cannot be read (") and line.endswith("from Optuna's storage")
    assert "\n" not in line and line.count(str(path)) == 1

    (note,) = restore(study, ledger)
    assert note.startswith("note: trial 1 is restored from Optuna's storage")
    assert ledger.damage == {} and len(list(path.parent.glob("trial.json.damaged-*"))) == 1
    assert [_stored(r) for r in ledger.records()] == [_stored(r) for r in before]
    assert restore(study, ledger) == []


def test_a_record_that_is_gone_is_restored(tmp_path: Path) -> None:
    study, _ = made_up_study(tmp_path, 2)
    shutil.rmtree(tmp_path / "trials/0000")
    assert "its trial.json was gone" in restore(study, Ledger(tmp_path))[0]
    assert [r.baseline for r in Ledger(tmp_path).records()] == [True, False]


@pytest.mark.parametrize("damage", [DAMAGE["empty"], DAMAGE["cut off"], DAMAGE["binary"], as_folder])
def test_damaged_tables_count_as_missing(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    ledger = Ledger(tmp_path)
    ledger.write_requests(0, [REQUEST], {"cpu_cores": [(0.5, 1.0)]})
    for path in (tmp_path / "trials/0000").iterdir():
        damage(path)
    readers = (ledger.read_requests, ledger.read_answers, ledger.read_latencies, ledger.read_series)
    assert [len(read(0)) for read in readers] == [0, 0, 0, 0]
    assert [path.name for path in ledger.damage] == ["requests.parquet", "telemetry.parquet"]
    assert all("figures are not affected" in line for line in ledger.damage.values())


def test_a_field_of_a_later_version_is_left_out_and_a_missing_one_is_named() -> None:
    text = TrialRecord("s", 0, "search", {}, {}, {}).to_json()  # type: ignore[arg-type]
    assert TrialRecord.from_json(text.replace('"study"', '"later": 1, "study"')).number == 0
    with pytest.raises(ValueError, match="number"):
        TrialRecord.from_json(text.replace('"number"', '"no"'))


def test_a_studys_own_command_ends_with_code_1_while_raw_data_stay_damaged(
    quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_study(quick)
    assert code_of(plan, quick) == 0  # nothing to do
    path = plan.folder / "trials/0000/requests.parquet"
    path.write_bytes(path.read_bytes()[:90])
    capsys.readouterr()
    assert code_of(plan, quick) == 1
    lines = capsys.readouterr().out.splitlines()
    (warning,) = (line for line in lines if line.startswith("warning: "))
    assert warning.startswith(f"warning: {path} cannot be read (")
    assert any(line.startswith("report: ") for line in lines)


@pytest.fixture
def damaged(made_studies: Path, tmp_path: Path) -> Path:
    """An output folder in which many files of one study are damaged."""
    out = copy_studies(made_studies, tmp_path / "out", "cache", "figures")
    chat = out / "studies/chat"
    for path in (*chat.glob("*.json"), chat / "config.yaml", *chat.glob("trials/000[01]/*")):
        path.write_bytes(b"\xff\xfe\x00")
    return out


def test_every_command_goes_on_without_the_damaged_files(
    optimize: Run, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.report.page.write_png", lambda drawing, path: path)
    words = ["engine=simulated", f"output_dir={damaged}"]
    synced = optimize(words, "optimize.sync")
    assert synced.returncode == 1 and "0 trials mirrored" in synced.stdout and "4 studies checked" in synced.stdout
    assert "warning: study chat is not mirrored: " in synced.stderr and "Traceback" not in synced.stderr
    shown = optimize(["+study=chat", *words], "optimize.report")
    assert shown.returncode == 1 and shown.stdout.count("is restored from Optuna's storage") == 2
    assert all(line.startswith("warning: ") and "cannot be read" in line for line in shown.stderr.splitlines())
    assert {Path(line.split()[1]).name for line in shown.stderr.splitlines()} >= {"config.yaml", "mlflow.json"}
    assert optimize(["+study=bulk", *words], "optimize.report").returncode == 0
    assert optimize(words, "optimize.recommend").returncode == 0
