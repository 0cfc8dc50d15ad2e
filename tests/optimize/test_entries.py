"""Entries of the cache carry a mark, are held by their users, and are removed by nobody else's hand."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.entries import MARK, claim, draft, hold, is_held, is_marked, mark, publish, release, remove
from optimize.errors import OptimizeError


def test_a_new_entry_is_empty_marked_and_held(tmp_path: Path) -> None:
    entry = claim(tmp_path / "tokens" / "abc")
    assert [path.name for path in entry.iterdir()] == [MARK]
    assert is_marked(entry) and is_held(entry)
    assert (entry / MARK).read_text(encoding="utf-8").startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert claim(entry) == entry
    release(entry)
    assert not is_held(entry)


def test_a_folder_without_a_mark_is_used_but_neither_marked_nor_removed(tmp_path: Path) -> None:
    theirs = tmp_path / "compiled" / "kernels"
    theirs.mkdir(parents=True)
    assert claim(theirs) == theirs
    assert list(theirs.iterdir()) == [] and not hold(theirs) and not remove(theirs)
    assert theirs.is_dir()


def test_a_copy_under_another_name_is_no_entry(tmp_path: Path) -> None:
    entry, copy = claim(tmp_path / "tokens" / "abc"), tmp_path / "tokens" / "my copy"
    copy.mkdir()
    (copy / MARK).write_bytes((entry / MARK).read_bytes())
    assert not is_marked(copy) and not remove(copy) and copy.is_dir()


def test_a_link_to_an_entry_is_no_entry(tmp_path: Path) -> None:
    entry = claim(tmp_path / "disk" / "tokens" / "abc")
    release(entry)
    (tmp_path / "tokens").mkdir()
    link = tmp_path / "tokens" / "abc"
    link.symlink_to(entry)
    assert not is_marked(link) and not remove(link)
    assert link.is_symlink() and entry.is_dir()


def test_links_in_an_entry_are_removed_and_their_targets_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("text", encoding="utf-8")
    entry = claim(tmp_path / "compiled" / "k")
    (entry / "deep").mkdir()
    for link in (entry / "folder", entry / "deep" / "folder"):
        link.symlink_to(tmp_path / "mine")
    (entry / "file").symlink_to(tmp_path / "mine" / "thesis.txt")
    release(entry)
    assert remove(entry) and not entry.exists()
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "text"


def test_an_entry_in_use_is_not_removed(tmp_path: Path) -> None:
    entry = claim(tmp_path / "tokens" / "abc")
    with pytest.raises(BlockingIOError):
        remove(entry)
    release(entry)
    assert remove(entry) and not remove(entry)
    assert claim(entry).is_dir() and is_held(entry)


def test_a_killed_process_releases_its_entries(tmp_path: Path) -> None:
    entry = tmp_path / "compiled" / "kernels"
    code = (
        "import sys, time; from pathlib import Path; from optimize.entries import claim\n"
        "claim(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(entry)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    assert is_held(entry)
    other.kill()
    other.wait()
    other.stdout.close()
    assert not is_held(entry)


def test_a_draft_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    entry = tmp_path / "checkpoints" / "m"
    partial = draft(entry)
    assert is_marked(partial) and is_held(partial) and not entry.exists()
    publish(partial, entry)
    assert is_marked(entry) and is_held(entry) and not partial.exists()
    release(entry)
    assert not is_held(entry)


def test_an_unfinished_draft_is_removed_by_the_next_one_and_one_in_progress_is_not(tmp_path: Path) -> None:
    entry, theirs = tmp_path / "checkpoints" / "m", tmp_path / "checkpoints" / "m.part"
    unfinished, in_progress = draft(entry), draft(entry)
    theirs.mkdir()
    release(unfinished)
    draft(entry)
    assert not unfinished.exists() and in_progress.is_dir() and theirs.is_dir()


def test_the_second_of_two_drafts_is_dropped(tmp_path: Path) -> None:
    entry = tmp_path / "checkpoints" / "m"
    first, second = draft(entry), draft(entry)
    (first / "file").write_text("first", encoding="utf-8")
    publish(first, entry)
    publish(second, entry)
    assert (entry / "file").read_text(encoding="utf-8") == "first"
    assert list(entry.parent.iterdir()) == [entry]


def test_a_draft_that_came_second_may_be_removed_by_another_process(tmp_path: Path) -> None:
    entry = tmp_path / "tokens" / "abc"
    second = draft(entry)
    publish(draft(entry), entry)
    with open(second / MARK, encoding="utf-8") as other:  # as the process holds it that looks for unfinished drafts
        fcntl.flock(other, fcntl.LOCK_SH)
        publish(second, entry)
    assert is_marked(entry) and is_held(entry)


def test_what_a_kill_during_removal_leaves_is_still_an_entry(tmp_path: Path) -> None:
    entry = claim(tmp_path / "checkpoints" / "m")
    release(entry)
    rest = entry.rename(entry.with_name("m.0123abcd.removed"))
    assert is_marked(rest) and remove(rest)
    assert list(entry.parent.iterdir()) == []


def test_a_mark_is_written_once(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "m"
    folder.mkdir(parents=True)
    mark(folder)
    before = (folder / MARK).stat()
    mark(folder)
    assert (folder / MARK).stat().st_ino == before.st_ino


def test_a_mark_that_is_a_link_is_none(tmp_path: Path) -> None:
    entry, theirs = claim(tmp_path / "tokens" / "abc"), tmp_path / "tokens" / "theirs"
    theirs.mkdir()
    (theirs / MARK).symlink_to(entry / MARK)
    assert not is_marked(theirs)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a file", encoding="utf-8")
    with pytest.raises(
        OptimizeError, match=r"^the cache cannot hold .*tokens/abc \(.*\): make room, or choose another"
    ):
        claim(tmp_path / "tokens" / "abc")


def test_claims_of_the_same_entry_at_once_agree(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from optimize.entries import claim, is_marked\n"
    code += "assert all(is_marked(claim(Path(sys.argv[1]) / str(n))) for n in range(40))"
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "tokens")]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert sorted(os.listdir(tmp_path / "tokens")) == sorted(map(str, range(40)))
