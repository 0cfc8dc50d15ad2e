"""A checkpoint that is not whole is never served."""

import json
import os
from pathlib import Path

import pytest

from optimize.model.manifest import MANIFEST, damage, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 16)
    write_manifest(tmp_path, {"seconds": 1.5})
    return tmp_path


def test_a_whole_checkpoint_has_no_damage_and_tells_its_facts(folder: Path) -> None:
    assert damage(folder) is None
    facts = read_manifest(folder)
    assert facts["seconds"] == 1.5
    assert facts["files"]["model.safetensors"]["bytes"] == 4096


def test_one_that_was_never_finished(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    assert damage(folder) == "it is not finished"
    assert damage(folder / "nowhere") == "it is not finished"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": 3}'])
def test_a_broken_manifest(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_text(content, encoding="utf-8")
    assert damage(folder) == "its manifest.json is broken"


def test_a_truncated_file_is_detected_by_its_size(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 4000)
    assert damage(folder) == "model.safetensors has 4000 bytes instead of 4096"


def test_a_missing_file(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert damage(folder) == "config.json is missing"


def test_one_changed_byte_is_detected_by_the_hash_even_after_the_file_was_verified(folder: Path) -> None:
    assert damage(folder) is None
    path = folder / "model.safetensors"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    os.utime(path, ns=(0, 1))
    assert damage(folder) == "model.safetensors has other contents than when it was made"


def test_the_manifest_is_json_that_others_can_read(folder: Path) -> None:
    assert set(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))) == {"seconds", "files"}
