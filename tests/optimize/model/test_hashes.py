"""The hash of a large model is kept, and made anew whenever a file of it has changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from optimize.checkpoint import content_hash, hash_of_files
from optimize.model.hashes import model_hash

LATER_NS = 10**10
"""How long after the last change a start comes whose hash can be kept."""


class Starts:
    """Starts of commands on one model; an entry that was tampered with shows which of them do not read the model."""

    def __init__(self, root: Path) -> None:
        self.folder, self.cache = root / "model", root / "cache"
        self.folder.mkdir()
        (self.folder / "config.json").write_text("{}", encoding="utf-8")
        (self.folder / "model.safetensors").write_bytes(bytes(4096))

    def hash(self, name: str, later_ns: int = LATER_NS) -> str:
        """The hash that a start takes, which calls the folder by a name of its own, as another process would."""
        link = self.folder.with_name(name)
        link.symlink_to(self.folder)
        newest = max(file.stat().st_ctime_ns for file in self.folder.iterdir())
        return model_hash(str(link), self.cache, pytest.fail, 1, lambda: newest + later_ns)

    @property
    def entries(self) -> list[Path]:
        return list(self.cache.glob("hashes/*/hash.json"))

    def tamper(self) -> None:
        (entry,) = self.entries
        entry.write_text(
            json.dumps({**json.loads(entry.read_text(encoding="utf-8")), "hash": "kept"}), encoding="utf-8"
        )


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(tmp_path)


def test_a_model_is_read_at_the_first_start_alone(starts: Starts) -> None:
    assert starts.hash("first") == hash_of_files(starts.folder)
    starts.tamper()
    assert starts.hash("second") == "kept" == content_hash(str(starts.folder.with_name("second")))


@pytest.mark.parametrize("edit", ["same size", "time of its own", "new file", "file removed", "renamed"])
def test_an_edit_of_any_kind_is_seen(starts: Starts, edit: str) -> None:
    weights = starts.folder / "model.safetensors"
    before = starts.hash("first")
    starts.tamper()
    if edit == "new file":
        (starts.folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    elif edit == "file removed":
        (starts.folder / "config.json").unlink()
    elif edit == "renamed":
        weights.rename(starts.folder / "model-00001-of-00001.safetensors")
    else:
        times = weights.stat()
        weights.write_bytes(b"1" * 4096)
        if edit == "time of its own":
            os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert starts.hash("second") == hash_of_files(starts.folder) != before


def test_a_hash_is_not_kept_where_another_edit_might_not_show(starts: Starts) -> None:
    starts.hash("first", later_ns=10**9)
    assert starts.entries == []


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3}'])
def test_a_damaged_entry_is_made_anew(starts: Starts, text: str) -> None:
    starts.hash("first")
    starts.entries[0].write_text(text, encoding="utf-8")
    assert starts.hash("second") == hash_of_files(starts.folder)
    starts.tamper()
    assert starts.hash("third") == "kept"


def test_small_models_and_those_that_are_not_on_this_disk_leave_nothing_in_the_cache(starts: Starts) -> None:
    assert model_hash(str(starts.folder), starts.cache) == hash_of_files(starts.folder)
    assert len(model_hash("somebody/model", starts.cache)) == 16
    assert not starts.cache.exists()
