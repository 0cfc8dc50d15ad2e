"""Entries of the cache can be listed, bounded and removed, but not while a study uses them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.cache.store import entries, evict, remove, using
from tests.conftest import Run

KIB = 1024


def entry(root: Path, kind: str, name: str, size_bytes: int, used_at: float = 0.0) -> Path:
    folder = root / kind / name
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(b"x" * size_bytes)
    os.utime(folder, (used_at, used_at))
    return folder


def names(root: Path) -> list[str]:
    return [e.path.name for e in entries(root)]


def test_entries_have_size_and_age_and_the_oldest_comes_first(tmp_path: Path) -> None:
    entry(tmp_path, "compiled", "new", 10, used_at=200)
    entry(tmp_path, "checkpoints", "old", 20, used_at=100)
    (tmp_path / "checkpoints" / "lock").touch()
    assert [(e.kind, e.path.name, e.size_bytes, e.used_at, e.in_use) for e in entries(tmp_path)] == [
        ("checkpoints", "old", 20, 100.0, False),
        ("compiled", "new", 10, 200.0, False),
    ]
    assert entries(tmp_path / "none") == []


def test_an_entry_in_use_becomes_the_youngest_and_is_kept(tmp_path: Path) -> None:
    old, new = entry(tmp_path, "checkpoints", "old", 10, 100), entry(tmp_path, "checkpoints", "new", 10, 200)
    with using(tmp_path, [old]), using(tmp_path, [old]):
        assert names(tmp_path) == ["new", "old"]
        removed, kept = remove(tmp_path, entries(tmp_path))
        assert ([e.path for e in removed], [e.path for e in kept]) == ([new], [old])
    assert old.is_dir() and not new.exists()
    assert [e.path for e in remove(tmp_path, entries(tmp_path))[0]] == [old]


def test_the_least_recently_used_are_removed_until_the_rest_fits(tmp_path: Path) -> None:
    for age, name in enumerate("abcd"):
        entry(tmp_path, "checkpoints", name, KIB, used_at=age)
    with using(tmp_path, [tmp_path / "checkpoints" / "a"]):
        evicted = evict(tmp_path, 2.5 * KIB)
    assert [e.path.name for e in evicted] == ["b", "c"]
    assert sorted(names(tmp_path)) == ["a", "d"]
    assert evict(tmp_path, 2.5 * KIB) == []


def test_a_killed_process_releases_its_entries(tmp_path: Path) -> None:
    held = entry(tmp_path, "compiled", "kernels", 10)
    code = (
        "import sys, time; from pathlib import Path; from optimize.cache.store import using\n"
        "with using(Path(sys.argv[1]), [Path(sys.argv[2])]): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(held)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    assert [e.in_use for e in entries(tmp_path)] == [True]
    assert remove(tmp_path, entries(tmp_path))[0] == []
    other.kill()
    other.wait()
    other.stdout.close()
    assert [e.in_use for e in entries(tmp_path)] == [False]


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
    entry(tmp_path, "compiled", "kernels", 10)
    entry(tmp_path, "checkpoints", "demo-int8", 10)
    done = optimize([*words, f"cache_dir={tmp_path}"], verb="optimize.cache")
    assert done.returncode == code, done.stderr
    assert message in (done.stdout if code == 0 else done.stderr)
