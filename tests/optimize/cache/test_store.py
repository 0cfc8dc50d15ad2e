"""Entries of the cache can be listed, bounded and removed, but not while they are in use; nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from optimize.cache.store import entries, evict, foreign, remove
from optimize.entries import MARK, claim, hold, release
from tests.conftest import Run

KIB = 1024


def entry(root: Path, kind: str, name: str, size_bytes: int, used_at: float = 0.0) -> Path:
    """An entry that nobody uses; its mark is the smaller part of it."""
    folder = claim(root / kind / name)
    (folder / "data").write_bytes(b"x" * (size_bytes - (folder / MARK).stat().st_size))
    os.utime(folder / MARK, (used_at, used_at))
    release(folder)
    return folder


def checkpoint_of_an_earlier_version(root: Path, name: str) -> Path:
    folder = root / "checkpoints" / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * KIB)
    digest = hashlib.sha256(b"x" * KIB).hexdigest()
    facts = {"recipe": {}, "recipe_text": "", "model_hash": "", "files": {}}
    facts["files"] = {"model.safetensors": {"bytes": KIB, "sha256": digest}}
    (folder / "manifest.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def names(root: Path) -> list[str]:
    return [e.path.name for e in entries(root)]


def test_entries_have_size_and_age_and_the_oldest_comes_first(tmp_path: Path) -> None:
    entry(tmp_path, "compiled", "new", 1000, used_at=200)
    entry(tmp_path, "checkpoints", "old", 2000, used_at=100)
    (tmp_path / "checkpoints" / "lock").touch()
    assert [(e.kind, e.path.name, e.size_bytes, e.used_at, e.in_use) for e in entries(tmp_path)] == [
        ("checkpoints", "old", 2000, 100.0, False),
        ("compiled", "new", 1000, 200.0, False),
    ]
    assert foreign(tmp_path) == []
    assert entries(tmp_path / "none") == [] and foreign(tmp_path / "none") == []


def test_an_entry_in_use_becomes_the_youngest_and_is_kept(tmp_path: Path) -> None:
    old, new = entry(tmp_path, "checkpoints", "old", KIB, 100), entry(tmp_path, "checkpoints", "new", KIB, 200)
    hold(old)
    assert names(tmp_path) == ["new", "old"]
    result = remove(entries(tmp_path))
    assert ([e.path for e in result.removed], [e.path for e in result.in_use]) == ([new], [old])
    release(old)
    assert old.is_dir() and not new.exists()
    assert [e.path for e in remove(entries(tmp_path)).removed] == [old]


def test_the_least_recently_used_are_removed_until_the_rest_fits(tmp_path: Path) -> None:
    for age, name in enumerate("abcd"):
        entry(tmp_path, "checkpoints", name, KIB, used_at=age)
    hold(tmp_path / "checkpoints" / "a")
    evicted = evict(tmp_path, 2.5 * KIB).removed
    release(tmp_path / "checkpoints" / "a")
    assert [e.path.name for e in evicted] == ["b", "c"]
    assert "checkpoints b, 0.00 GiB, last used " in str(evicted[0])
    assert sorted(names(tmp_path)) == ["a", "d"]
    assert evict(tmp_path, 2.5 * KIB).removed == []


def untidy(root: Path) -> set[Path]:
    """A folder that somebody keeps other things in; returns their files."""
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    theirs = [
        root / "checkpoints/my-finetune.pt", root / "checkpoints/adapter/weights.bin", root / "datasets/corpus/a.txt",
        root / "tokens/notes.json", root / "thesis.tex", elsewhere / "big.bin",
    ]  # fmt: skip
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10 * KIB)
    (root / "checkpoints" / "link").symlink_to(elsewhere)
    (root / "compiled").symlink_to(elsewhere)
    return {*theirs, root / "checkpoints" / "link"}


def test_eviction_leaves_what_is_not_this_projects(tmp_path: Path) -> None:
    theirs = untidy(tmp_path / "data")
    mine = entry(tmp_path / "data", "checkpoints", "mine", KIB)
    assert [e.path for e in evict(tmp_path / "data", 0).removed] == [mine]
    assert [path for path in theirs if not path.exists()] == [] and not mine.exists()


def test_their_size_does_not_count(tmp_path: Path) -> None:
    untidy(tmp_path / "data")
    entry(tmp_path / "data", "checkpoints", "mine", KIB)
    assert evict(tmp_path / "data", KIB).removed == []


def test_the_command_leaves_what_is_not_this_projects_and_says_so(optimize: Run, tmp_path: Path) -> None:
    theirs = untidy(tmp_path / "data")
    mine = entry(tmp_path / "data", "tokens", "mine", KIB)
    (tmp_path / "link").symlink_to(tmp_path / "data")  # the cache's own folder may be a link
    done = optimize(["clear", f"cache_dir={tmp_path}/link"], verb="optimize.cache")
    assert done.returncode == 0 and "1 entries removed" in done.stdout
    assert "left alone, without the mark of this version: 6 (checkpoints/adapter, " in done.stdout
    assert [path for path in theirs if not path.exists()] == [] and not mine.exists()


def test_a_checkpoint_of_an_earlier_version_is_an_entry_until_somebody_adds_a_file(tmp_path: Path) -> None:
    whole = checkpoint_of_an_earlier_version(tmp_path, "demo-int8-0123456789ab")
    other = checkpoint_of_an_earlier_version(tmp_path, "demo-int4-0123456789ab")
    (other / "my-notes.txt").touch()
    assert [e.path for e in entries(tmp_path)] == [whole] and foreign(tmp_path) == [other]
    assert [e.path for e in remove(entries(tmp_path)).removed] == [whole]
    assert (other / "model.safetensors").is_file() and not whole.exists()


def test_an_entry_that_the_system_does_not_let_go_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "checkpoints", "stuck", KIB, used_at=1)
    free = entry(tmp_path, "checkpoints", "free", KIB, used_at=2)
    rename = Path.rename

    def stubborn(path: Path, target: Path) -> Path:
        if path.name == "stuck":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stubborn)
    result = remove(entries(tmp_path))
    assert [e.path for e in result.removed] == [free]
    assert result.failed == {tmp_path / "checkpoints" / "stuck": "Permission denied"}


def _evict_together(
    root: Path, start: Barrier, rounds: int, results: multiprocessing.Queue[tuple[int, int | str]]
) -> None:
    for turn in range(rounds):
        start.wait()
        try:
            results.put((turn, len(evict(root, 0).removed)))
        except BaseException as error:
            results.put((turn, repr(error)))
        start.wait()


def test_evictions_at_the_same_time_remove_each_entry_once(tmp_path: Path) -> None:
    context, processes, rounds = multiprocessing.get_context("spawn"), 5, 9
    start, results = context.Barrier(processes + 1), context.Queue()
    children = [
        context.Process(target=_evict_together, args=(tmp_path, start, rounds, results)) for _ in range(processes)
    ]
    for child in children:
        child.start()
    kept = entry(tmp_path, "checkpoints", "kept", KIB)
    hold(kept)
    for turn in range(rounds):
        for number in range(8):
            entry(tmp_path, "checkpoints", f"{turn}-{number}", KIB)
        start.wait()
        start.wait()
    counts = [results.get() for _ in range(processes * rounds)]
    for child in children:
        child.join()
    assert [count for _, count in counts if not isinstance(count, int)] == []
    release(kept)
    removed = sum(count for _, count in counts if isinstance(count, int))
    assert kept.is_dir() and removed + len(names(tmp_path)) - 1 == rounds * 8


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 0, "2 entries"),
        (["clear", "compiled"], 0, "1 entries removed"),
        (["clear"], 0, "2 entries removed"),
        (["clear", "compild"], 2, "did you mean 'compiled'?"),
        (["empty"], 2, "unknown action"),
    ],
)
def test_the_command_lists_and_removes(
    optimize: Run, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    entry(tmp_path, "compiled", "kernels", KIB)
    entry(tmp_path, "checkpoints", "demo-int8", KIB)
    done = optimize([*words, f"cache_dir={tmp_path}"], verb="optimize.cache")
    assert done.returncode == code, done.stderr
    assert message in (done.stdout if code == 0 else done.stderr)
