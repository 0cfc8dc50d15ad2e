"""The folder of a bundle: what may be overwritten, and what is kept for it."""

from pathlib import Path

import pytest

from optimize.config.deploy import Alerts, Deploy
from optimize.config.schema import StudyConfig, StudySettings
from optimize.deploy.bundle import MARK, deploy, make_deployment, make_folder, write_bundle
from optimize.entries import claim, release
from optimize.errors import ConfigError
from tests.optimize.rows import study_row


def test_the_cache_keeps_the_checkpoint_that_a_bundle_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = claim(tmp_path / "cache/checkpoints/demo-int8-0123456789ab")
    release(checkpoint)
    row = study_row(f"vllm serve {checkpoint} --host=127.0.0.1 --max-num-seqs=64")
    monkeypatch.setattr("optimize.deploy.bundle.runnable_row", lambda config: row)
    settings = Deploy(folder=str(tmp_path / "bundle"), verify=False)
    assert deploy(StudyConfig(study=StudySettings(name="chat"), deploy=settings, output_dir=str(tmp_path))) == 0
    assert str(tmp_path / "bundle") in (checkpoint / "KEEP").read_text(encoding="utf-8")


def test_only_a_bundle_is_overwritten(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "bundle")
    write_bundle(make_deployment(study_row(), StudyConfig(), folder), Alerts(), None)
    assert make_folder(folder) == folder
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    with pytest.raises(ConfigError, match="holds files and is not a bundle"):
        make_folder(tmp_path / "mine")


def test_a_bundle_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("{broken")
    with pytest.raises(ConfigError, match=f"{MARK} cannot be read"):
        make_folder(tmp_path)


def test_a_folder_that_python_cannot_import_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a colon"):
        make_folder(tmp_path / "a:b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write to"):
        make_folder(tmp_path / "file/bundle")
