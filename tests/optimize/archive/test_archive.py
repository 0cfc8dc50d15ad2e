"""A study in one file: what it holds, what it leaves out, and that another folder reads the same study from it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import optuna
import pytest

from objectives import RequestRecord
from optimize.archive.reading import Archive
from optimize.archive.unpacking import unpack
from optimize.archive.writing import write_archive
from optimize.config.archive import Export
from optimize.config.compose import configuration
from optimize.errors import ConfigError
from optimize.ledger import Ledger
from optimize.plan import make_plan
from optimize.study.confirmation import recommendation
from optimize.study.info import info_of
from optimize.study.lifecycle import open_study
from optimize.study.rows import runnable_row
from optimize.study.trials import candidates, trial_of
from optimize.testing.made_up_study import made_up_study
from tests.conftest import Run
from tests.optimize.config.test_bad_input import refusal

GIB = 2**30
ANSWER = "Berlin is the capital of Germany."


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[optuna.Study, Ledger]:
    """A study of six trials; what was answered in the first quotes its prompts."""
    study, ledger = made_up_study(tmp_path_factory.mktemp("there") / "studies/made-up", 6)
    ledger.write_requests(0, [RequestRecord(i, i, i, i + 0.1, i + 0.5, 20, 30, ANSWER) for i in range(9)], {})
    record = ledger.read(0)
    assert record is not None
    record.config["deploy_command"] = "vllm serve /home/ada/models/secret --host=10.0.0.7"
    ledger.write(record)
    return study, ledger


@pytest.fixture(scope="module")
def archive(study: tuple[optuna.Study, Ledger], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "made-up.study.zip"
    write_archive(*study, Export(), path)
    return path


def _texts(path: Path) -> str:
    with zipfile.ZipFile(path) as opened:
        return "\n".join(opened.read(name).decode(errors="replace") for name in opened.namelist())


def test_the_same_study_gives_the_same_bytes(study: tuple[optuna.Study, Ledger], archive: Path, tmp_path: Path) -> None:
    write_archive(*study, Export(), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_another_folder_reads_the_same_study(study: tuple[optuna.Study, Ledger], archive: Path, tmp_path: Path) -> None:
    with Archive(archive, GIB) as opened:
        there = unpack(opened, f"sqlite:///{tmp_path}/optuna.db", str(tmp_path), "copy")
    assert candidates(there) == candidates(study[0])
    assert recommendation(there) == recommendation(study[0])
    assert info_of(there).limits == info_of(study[0]).limits and info_of(there).tags == {"study": "copy"}
    assert [t.constraints for t in there.trials] == [t.constraints for t in study[0].trials]
    assert [t.datetime_complete for t in there.trials] == [t.datetime_complete for t in study[0].trials]
    ledger = Ledger(tmp_path / "studies/copy")
    assert ledger.numbers() == study[1].numbers() and ledger.overrides() == study[1].overrides()
    assert ledger.read_series(1) == study[1].read_series(1)
    assert ledger.read_requests(1) == study[1].read_requests(1)
    assert not (ledger.folder / "report").exists()  # a page of somebody else's is not taken
    assert [path for path in (tmp_path / "studies").iterdir() if path.name != "copy"] == []


def test_answers_paths_and_hosts_stay_unless_they_may_leave(
    study: tuple[optuna.Study, Ledger], archive: Path, tmp_path: Path
) -> None:
    kept, every = tmp_path / "kept.zip", Export(prompts=True, paths=True)
    write_archive(*study, every, kept)
    with zipfile.ZipFile(kept) as opened:
        opened.extract("trials/0000/requests.parquet", tmp_path)
        assert "/home/ada/models/secret" in opened.read("trials/0000/trial.json").decode()
    there = Ledger(tmp_path)
    assert there.read_answers(0) == [(i, ANSWER) for i in range(9)]
    for secret in ("ada", "10.0.0.7", str(study[1].folder)):
        assert secret not in _texts(archive)
    with zipfile.ZipFile(archive) as opened:
        opened.extract("trials/0000/requests.parquet", tmp_path)
    assert there.read_answers(0) == []
    assert [r.done_s for r in there.read_requests(0)] == [i + 0.5 for i in range(9)]


def test_a_trial_that_was_running_is_taken_down_as_failed(study: tuple[optuna.Study, Ledger]) -> None:
    from optimize.study.snapshot import snapshot, study_in_memory

    running = optuna.create_study(study_name="made-up", directions=list(study[0].directions))
    running.set_user_attr("about", study[0].user_attrs["about"])
    running.add_trials(study[0].trials)
    running.ask()
    copy = study_in_memory(json.loads(json.dumps(snapshot(running))), "copy")
    assert trial_of(copy, 6).state is optuna.trial.TrialState.FAIL
    assert candidates(copy) == candidates(study[0])


def test_a_study_goes_through_both_commands_into_every_other(optimize: Run, made_studies: Path, tmp_path: Path) -> None:
    path, here = tmp_path / "chat.zip", [f"output_dir={tmp_path}/out"]
    done = optimize(["study.name=chat", f"output_dir={made_studies}", f"export.into={path}"], verb="optimize.export")
    assert done.returncode == 0, done.stderr
    assert "without answers, paths, host names and addresses" in done.stdout
    assert str(made_studies) not in _texts(path)
    words = ["study.name=chat", f"output_dir={made_studies}", "export.into=/proc/chat.zip"]
    assert "export.into: cannot write to /proc (" in refusal(optimize(words, verb="optimize.export"))
    done = optimize([f"unpack.archive={path}", *here], verb="optimize.unpack")
    assert done.returncode == 0 and f"next: python -m optimize.report {here[0]} study.name=chat" in done.stdout
    assert optimize(here, verb="optimize.recommend").returncode == 0
    original = json.loads((made_studies / "matrix.json").read_text(encoding="utf-8"))
    row = next(row for row in original if row["study"] == "chat")
    (there,) = json.loads((tmp_path / "out/matrix.json").read_text(encoding="utf-8"))
    assert {k: v for k, v in there.items() if k != "config"} == {k: v for k, v in row.items() if k != "config"}
    message = refusal(optimize([f"unpack.archive={path}", *here], verb="optimize.unpack"))
    assert "there is a study 'chat' already: give this one another name, e.g. unpack.name=chat-2" in message


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("optimize.unpack", [], "unpack.archive names no file"),
        ("optimize.unpack", ["unpack.archive=none.zip"], "there is no such file"),
        ("optimize.unpack", ["unpack.archive=README.md"], "File is not a zip file"),
    ],
)
def test_a_command_refuses(optimize: Run, tmp_path: Path, verb: str, words: list[str], message: str) -> None:
    assert message in refusal(optimize([*words, f"output_dir={tmp_path}/out"], verb))


def test_no_engine_runs_with_settings_of_somebody_elses_unless_they_are_trusted(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, words = f"sqlite:///{tmp_path}/optuna.db", ["+study=chat", f"output_dir={tmp_path}"]
    with Archive(archive, GIB) as opened:
        unpack(opened, storage, str(tmp_path), "chat")
    row = object()
    monkeypatch.setattr("optimize.study.rows.requested_row", lambda config: row)
    with pytest.raises(ConfigError, match="'chat' came from an archive.*add unpack.trust=true if you trust them"):
        runnable_row(configuration(words))
    assert runnable_row(configuration([*words, "unpack.trust=true"])) is row
    with pytest.raises(ConfigError, match="came from an archive"):
        open_study(make_plan(configuration([*words, "engine=simulated", f"cache_dir={tmp_path}/cache"])))
