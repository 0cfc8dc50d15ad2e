"""An archive that anybody may have written: each trick is refused in one line, and leaves nothing behind."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optimize.archive.contents import MANIFEST, Manifest, digest
from optimize.archive.reading import Archive
from optimize.archive.unpacking import unpack
from optimize.archive.writing import write_archive
from optimize.config.archive import Export
from optimize.errors import ConfigError
from optimize.ledger import Ledger
from optimize.raw_data import bytes_in
from optimize.study.snapshot import add_study
from optimize.study.trust import HALF, UNPACKED
from optimize.testing.made_up_study import made_up_study
from tests.storages import storage_at, study_at

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a sound archive, its manifest left out."""
    path = tmp_path_factory.mktemp("sound") / "made-up.zip"
    write_archive(*made_up_study(path.parent / "studies/made-up", 3), Export(), path)
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist() if name != MANIFEST}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[Path]:
    """A folder of studies that takes the sound archive after all tricks, so that none of them has left anything."""
    folder = tmp_path_factory.mktemp("here")
    yield folder
    _unpack(_archive(folder / "sound.zip", files))


def _archive(path: Path, files: Files, /, **fields: object) -> Path:
    """An archive whose checksums are right, unless the fields of its manifest are others."""
    manifest = Manifest("made-up", {name: digest(content) for name, content in files.items()}).to_dict() | fields
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, json.dumps(manifest))
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _unpack(path: Path, most_bytes: float = 2**30) -> None:
    with Archive(path, most_bytes) as archive:
        unpack(archive, f"sqlite:///{path.parent}/optuna.db", str(path.parent / "out"), archive.manifest.study)


def _changed(name: str, change: Callable[[dict], object]) -> Callable[[Files], Files]:  # type: ignore[type-arg]
    def changed(files: Files) -> Files:
        raw = json.loads(files[name])
        change(raw)
        return {**files, name: json.dumps(raw).encode()}

    return changed


def _table(**columns: object) -> bytes:
    buffer = BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


STUDY, RECORD, REQUESTS = "study.json", "trials/0001/trial.json", "trials/0001/requests.parquet"
TRICKS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "leads out": (lambda f: {**f, "../evil": b""}, "'../evil' is nothing that a study holds"),
    "leads out within": (lambda f: {**f, "trials/../../x.json": b""}, "is nothing that a study holds"),
    "absolute": (lambda f: {**f, "/etc/cron.d/x": b""}, "'/etc/cron.d/x' is nothing that a study holds"),
    "a page": (lambda f: {**f, "report/index.html": b"<script>"}, "is nothing that a study holds"),
    "a pickle": (lambda f: {**f, "trials/0001/requests.pkl": b"\x80\x04."}, "is nothing that a study holds"),
    "no study": (lambda f: {n: c for n, c in f.items() if n != STUDY}, STUDY),
    "no JSON": (lambda f: {**f, STUDY: b"{"}, STUDY),
    "deep JSON": (lambda f: {**f, STUDY: b"[" * 100_000}, STUDY),
    "other JSON": (lambda f: {**f, STUDY: b"[]"}, "an object is expected"),
    "no directions": (_changed(STUDY, lambda raw: raw.pop("directions")), "directions"),
    "running": (_changed(STUDY, lambda raw: raw["trials"][1].update(state="RUNNING")), "trial 1 has not ended"),
    "no figures": (_changed(STUDY, lambda raw: raw["trials"][1]["attributes"].update(estimates=[1])), STUDY),
    "an evil distribution": (
        _changed(STUDY, lambda raw: raw["trials"][1]["distributions"].update(workers={"name": "os", "attributes": {}})),
        STUDY,
    ),
    "no description": (_changed(STUDY, lambda raw: raw["attributes"].update(about={"limits": 3})), STUDY),
    "an evil plan": (_changed(STUDY, lambda raw: raw["attributes"].update(confirmations=[{"trials": "x"}])), STUDY),
    "another trial": (_changed(RECORD, lambda raw: raw.update(number=7)), "it is of trial 7"),
    "a number as text": (_changed(RECORD, lambda raw: raw.update(started_at="soon")), "started_at"),
    "no table": (lambda f: {**f, REQUESTS: b"PAR1 but no table PAR1"}, REQUESTS),
    "another table": (lambda f: {**f, REQUESTS: _table(evil=[1])}, REQUESTS),
    "a table within a table": (lambda f: {**f, REQUESTS: _table(prompt_id=[[1]])}, "'prompt_id' is of another type"),
    "aliases": (lambda f: {**f, "config.yaml": b"a: &a [1]\nb: [*a, *a]\n"}, "it has aliases"),
    "no YAML": (lambda f: {**f, "config.yaml": b"a: [1"}, "config.yaml: while parsing"),
    "an object": (
        lambda f: {**f, "config.yaml": b"a: !!python/object/apply:os.system [id]\n"},
        "config.yaml: could not",
    ),
    "deep YAML": (lambda f: {**f, "config.yaml": b"[" * 9000}, "nested more than 100 deep"),
    "long YAML": (lambda f: {**f, "config.yaml": b"#" * 2**21}, "config.yaml is larger than 1 MiB"),
}


@pytest.mark.parametrize("trick", list(TRICKS))
def test_a_trick_is_refused_and_leaves_nothing(files: Files, folder: Path, trick: str) -> None:
    change, message = TRICKS[trick]
    path = _archive(folder / "evil.zip", change(files))
    with pytest.raises(ConfigError) as refused:
        _unpack(path)
    assert message in str(refused.value) and str(refused.value).startswith(f"unpack.archive={path}")
    assert list((folder / "out").rglob("*.json")) == []


def test_the_name_of_a_study_leads_nowhere(files: Files, folder: Path) -> None:
    with pytest.raises(ConfigError, match="must consist of letters"):
        _unpack(_archive(folder / "evil.zip", files, study="../../x"))


def test_a_link_is_refused(files: Files, folder: Path) -> None:
    path = _archive(folder / "evil.zip", files)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("references.json")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ConfigError, match="'references.json' is nothing that a study holds"):
        _unpack(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_the_manifest_does_not_say_is_refused(files: Files, folder: Path) -> None:
    cases: dict[str, dict[str, object]] = {
        "its files are not those of its manifest.json": {"files": {}},
        "has version 2 of the format": {"version": 2},
        "has version '1' of the format": {"version": "1"},
        "missing or of something else": {"format": "other"},
        "its checksum differs": {"files": dict.fromkeys(files, "0" * 64)},
    }
    for message, fields in cases.items():
        with pytest.raises(ConfigError, match=message):
            _unpack(_archive(folder / "evil.zip", files, **fields))
    with zipfile.ZipFile(_archive(folder / "evil.zip", files), "a") as archive:
        archive.writestr(STUDY, files[STUDY])
    with pytest.raises(ConfigError, match="a file is in it twice"):
        _unpack(folder / "evil.zip")


def test_what_would_fill_the_memory_is_refused(files: Files, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="more than unpack.max_gib=.*: raise it if you trust whoever sent it"):
        _unpack(_archive(folder / "evil.zip", files), most_bytes=1000)
    monkeypatch.setattr("optimize.archive.unpacking.MOST_ROWS", 3)
    with pytest.raises(ConfigError, match="more than 3 rows"):
        _unpack(_archive(folder / "evil.zip", files))
    monkeypatch.setattr("optimize.archive.reading.MOST_FILES", 3)
    with pytest.raises(ConfigError, match="at most 3 are read"):
        _unpack(_archive(folder / "evil.zip", files))


def test_a_text_that_a_table_repeats_is_counted_at_each_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "requests.parquet"
    path.write_bytes(_table(text=["x" * 1000] * 9000, error=[None] * 9000, due_s=[1.0] * 9000))
    assert path.stat().st_size < 50_000, "the text is stored once"
    assert bytes_in(path, 2**30) == 9_000_000
    assert 10_000 < bytes_in(path, 10_000) < 9_000_000, "it is not read on"


def test_a_table_that_would_fill_the_memory_is_refused(
    files: Files, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.archive.unpacking.MOST_TABLE_BYTES", 2**20)
    evil = _table(text=["x" * 1000] * 2000)
    with pytest.raises(ConfigError, match="its texts take more than 1 MiB"):
        _unpack(_archive(folder / "evil.zip", {**files, REQUESTS: evil}))


ATTACK = "\x1b]52;c;ZXZpbA==\x07\x9b2J\u202etxt\u2028\ud800"
FORMS = {"artifacts:x": json.dumps({"artifact_id": "of-another-study"}), "dashboard:form_widgets:v2": {}}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Path:
    """A folder with the study of an archive whose texts command terminals, and whose trials name forms and files."""
    folder, queued = tmp_path_factory.mktemp("attacked"), {"workers": 1}
    named = _changed(STUDY, lambda raw: raw["trials"][0]["attributes"]["config"].update(deploy_command=ATTACK))
    formed = _changed(STUDY, lambda raw: raw["trials"][0]["system"].update(FORMS, fixed_params=queued))
    recorded = _changed(RECORD, lambda raw: raw.update(evidence=[f"one\ntwo{ATTACK}"]))
    config = f"# given: {json.dumps(['+study=chat', ATTACK])}\na: {json.dumps(ATTACK)}\n".encode()
    _unpack(_archive(folder / "evil.zip", {**recorded(formed(named(files))), "config.yaml": config}))
    return folder


def test_what_commands_a_terminal_is_written_out(attacked: Path) -> None:
    ledger, shown = Ledger(attacked / "out/studies/made-up"), r"\x1b]52;c;ZXZpbA==\x07\x9b2J\u202etxt\u2028\ud800"
    study, record = study_at(f"sqlite:///{attacked}/optuna.db", "made-up"), ledger.read(1)
    assert record is not None and record.evidence == [f"one\ntwo{shown}"]
    assert study.trials[0].user_attrs["config"]["deploy_command"] == shown
    assert ledger.overrides() == ["+study=chat", shown]
    assert ATTACK[:1] not in (ledger.folder / "config.yaml").read_text()


def test_forms_and_files_of_optunas_dashboard_stay_out(attacked: Path) -> None:
    """Deleting a study in the dashboard deletes the files that its trials name."""
    study = study_at(f"sqlite:///{attacked}/optuna.db", "made-up")
    kept = dict(study.get_trials(deepcopy=False)[0].system_attrs)
    assert kept.pop("fixed_params") == {"workers": 1}
    assert all(name.startswith("constraints:") for name in kept)


def test_a_kill_leaves_nothing_that_is_trusted_or_that_the_same_command_does_not_settle(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = _changed(STUDY, lambda raw: raw["attributes"].update({UNPACKED: False}))
    path, studies = _archive(tmp_path / "evil.zip", trusted(files)), tmp_path / "out/studies"

    def killed_at(owner: type, name: str, last: tuple[object, ...]) -> None:
        function = getattr(owner, name)

        def kill(*arguments: object) -> object:
            if arguments[1:] == last:
                raise KeyboardInterrupt
            return function(*arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, name, kill)
            _unpack(path)

    def study() -> optuna.Study:
        return study_at(f"sqlite:///{tmp_path}/optuna.db", "made-up")

    killed_at(Path, "rename", (studies / "made-up",))
    assert study().user_attrs[UNPACKED] == HALF
    (studies / ".unpack-killed/made-up").mkdir(parents=True)
    killed_at(optuna.Study, "set_user_attr", (UNPACKED, True))
    assert [folder.name for folder in studies.iterdir()] == ["made-up"] and study().user_attrs[UNPACKED] == HALF
    with pytest.raises(ConfigError, match="there is a study 'made-up' already"):
        _unpack(path)
    assert study().user_attrs[UNPACKED] is True and len(study().trials) == 3


def test_a_study_that_a_kill_left_before_its_mark_is_replaced(files: Files, tmp_path: Path) -> None:
    path, storage = _archive(tmp_path / "sound.zip", files), storage_at(f"sqlite:///{tmp_path}/optuna.db")
    optuna.create_study(study_name="made-up", storage=storage)
    _unpack(path)
    assert len(study_at(f"sqlite:///{tmp_path}/optuna.db", "made-up").trials) == 3


def test_a_folder_that_appears_meanwhile_is_left_alone(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = tmp_path / "out/studies/made-up/letter.txt"

    def added(*arguments: Any) -> optuna.Study:
        letter.parent.mkdir()
        letter.touch()
        return add_study(*arguments)

    monkeypatch.setattr("optimize.archive.unpacking.add_study", added)
    with pytest.raises(OSError, match="not empty"):
        _unpack(_archive(tmp_path / "sound.zip", files))
    assert letter.is_file() and optuna.get_all_study_names(storage_at(f"sqlite:///{tmp_path}/optuna.db")) == []


def test_a_file_that_is_longer_than_it_says_is_not_read_on(files: Files, folder: Path) -> None:
    path = _archive(folder / "evil.zip", files)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="no archive of a study that can be read"):
        _unpack(path)
