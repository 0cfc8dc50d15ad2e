"""What a killed reaper leaves (processes, their record, shared memory) is ended and removed, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from optimize.engine import reaper
from optimize.engine.leftovers import end_left
from tests.conftest import ROOT
from tests.optimize.engine.trees import OWNER, STUBBORN, is_alive, tree_of, wait_for

SHM = Path("/dev/shm")


def test_a_killed_reaper_leaves_nothing(tmp_path: Path) -> None:
    """Neither the main process nor a descendant in a session of its own that ignores SIGTERM."""
    tree = tree_of(STUBBORN, tmp_path / "log")
    assert wait_for(lambda: len(tree.processes()) == 2)
    pids, scratch = [p.pid for p in tree.processes()], tree.scratch
    os.kill(tree._reaper_pid, signal.SIGKILL)
    assert tree.ended.wait(60) and tree.broken()
    tree.stop()
    assert not any(is_alive(pid) for pid in pids)
    assert not Path(scratch).exists()


def test_what_a_reaper_and_its_owner_left_when_both_were_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(code=STUBBORN, log=str(tmp_path / "log"))],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert owner.stdout is not None
    keeper, *pids = (int(pid) for pid in owner.stdout.readline().split())
    owner.send_signal(signal.SIGSTOP)  # so that it cannot act on the reaper's end
    os.kill(keeper, signal.SIGKILL)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert wait_for(lambda: not is_alive(pids[0])), "the kernel kills the main process"
    assert is_alive(pids[1]), "nobody has noticed its descendant yet"
    tree_of("pass", tmp_path / "next").stop()
    assert not is_alive(pids[1])


def record_of(folder: Path, *processes: list[int], **fields: object) -> Path:
    """The folder of a tree whose reaper is gone, with these processes in its record."""
    folder.mkdir(exist_ok=True)
    first = {"system": reaper.system(), "keeper": [os.getpid(), 1], "marks": [str(folder)], **fields}
    lines = [first, *({"process": process} for process in processes)]
    (folder / reaper.RECORD).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process that belongs to no tree."""
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process.pid
        process.kill()


def test_a_process_is_ended_by_its_number_only_together_with_its_start(tmp_path: Path, bystander: int) -> None:
    start = reaper.started(bystander)
    assert start is not None
    assert end_left(str(record_of(tmp_path / "reused", [bystander, start + 1]))) == []
    for fields in ({"system": "elsewhere"}, {"keeper": [os.getpid(), reaper.started(os.getpid())]}):
        assert end_left(str(record_of(tmp_path / "other", [bystander, start], **fields))) == []
    foreign = record_of(tmp_path / "foreign", [bystander, start])
    (tmp_path / "link").symlink_to(foreign)
    assert end_left(str(tmp_path / "link")) == []
    if os.geteuid() == 0:
        os.chown(foreign, 65534, 65534)
        assert end_left(str(foreign)) == []
        os.chown(foreign, 0, 0)
    assert is_alive(bystander)
    assert end_left(str(foreign)) == [bystander]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"system": 1}', '"x"', "\x00"])
def test_a_damaged_record_ends_nothing_and_stops_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / reaper.RECORD).write_text(text)
    assert end_left(str(tmp_path)) == [] and tmp_path.exists()


def test_an_unrecorded_process_of_the_tree_is_told_by_its_mark(tmp_path: Path) -> None:
    """The record is written at intervals: a process that started since is in none."""
    env = {**os.environ, reaper.MARK: str(tmp_path / "tree")}
    with subprocess.Popen(
        ["sh", "-c", "echo; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline()  # a process that just begins has no environment
        assert end_left(str(record_of(tmp_path / "tree"))) == [process.pid]


def test_whoever_ends_leftovers_never_ends_itself(tmp_path: Path) -> None:
    """Not even where a record names a process above it, e.g. the first of the machine."""
    above = [[p.pid, start] for p in psutil.Process().parents() if (start := reaper.started(p.pid)) is not None]
    assert above and end_left(str(record_of(tmp_path / "tree", *above))) == []


SEGMENT = """
import time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
resource_tracker.register = lambda *_: None  # as in vLLM, whose tracker is killed with the rest
segment = SharedMemory(create=True, size=4096)
print(segment.name, flush=True)
time.sleep(300)
"""
SEMAPHORE = """
import os, pathlib, time
path = pathlib.Path(f"/dev/shm/sem.loky-{os.getpid()}-abc")  # joblib's named semaphore, which no process holds open
path.touch()
print(path.name, flush=True)
time.sleep(300)
"""


@pytest.fixture
def foreign() -> Iterator[list[Path]]:
    """Shared memory from before the tree that it never opened, and another process's semaphore."""
    earlier, semaphore = SharedMemory(create=True, size=4096), SHM / "sem.loky-1-abc"
    semaphore.touch()
    paths = [SHM / earlier.name, semaphore]
    yield paths
    semaphore.unlink()
    earlier.close()
    earlier.unlink()


@pytest.mark.parametrize("code", [SEGMENT, SEMAPHORE], ids=["segment", "semaphore"])
def test_shared_memory_of_a_stopped_tree_is_removed_and_no_other(
    tmp_path: Path, code: str, foreign: list[Path]
) -> None:
    log = tmp_path / "log"
    tree = tree_of(code, log)
    assert wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
    own = SHM / log.read_text().strip()
    later = SharedMemory(create=True, size=4096)
    assert own.exists()
    tree.stop()
    assert not own.exists()
    assert all(path.exists() for path in [*foreign, SHM / later.name])
    later.close()
    later.unlink()


@pytest.mark.parametrize("code", [SEGMENT, SEMAPHORE], ids=["segment", "semaphore"])
def test_shared_memory_of_a_killed_process_is_removed_once_a_scan_saw_it(code: str, foreign: list[Path]) -> None:
    """In a process of its own, below which nothing else runs."""
    script = (
        "import signal, subprocess, sys\nfrom optimize.engine.reaper import SharedMemory\n"
        "now = [0.0]\nmemory = SharedMemory(clock=lambda: now[0])\n"
        f"child = subprocess.Popen([sys.executable, '-c', {code!r}], stdout=subprocess.PIPE, text=True)\n"
        "name = child.stdout.readline().strip()\n"
        "now[0] = 0.6\nmemory.scan_if_due()\n"
        "child.send_signal(signal.SIGKILL); child.wait(); memory.remove(); print(name)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() and not (SHM / done.stdout.strip()).exists()
    assert all(path.exists() for path in foreign)


REPORTING = """
import sys
from optimize.engine import reaper
class Reporting(reaper.SharedMemory):
    def scan(self):
        super().scan()
        reaper.report(opened=sorted(self._opened))
reaper.SharedMemory = Reporting
reaper.keep(sys.argv[1], sys.argv[2], 0.2, sys.argv[3:])
"""


def test_the_reaper_scans_while_its_tree_runs(tmp_path: Path) -> None:
    """Otherwise it could not know the segments of a main process that was killed."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    arguments = [str(tmp_path / "log"), str(scratch), sys.executable, "-c", SEGMENT]
    command = [sys.executable, "-c", REPORTING, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        name = next(event["opened"][0] for event in map(json.loads, process.stdout) if event.get("opened"))
        (child,) = psutil.Process(process.pid).children()
        child.kill()
        assert {"exit": -signal.SIGKILL} in list(map(json.loads, process.stdout))
    assert not (SHM / name).exists()


def test_scans_are_frequent_while_an_engine_starts_and_rare_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    now, scans = [0.0], list[float]()

    def descendants(_: int) -> list[int]:
        scans.append(now[0])
        return []

    memory = reaper.SharedMemory(clock=lambda: now[0])
    monkeypatch.setattr(reaper, "descendants", descendants)
    for tenth in range(1, 1000):
        now[0] = tenth / 10
        memory.scan_if_due()
    assert len([at for at in scans if at < 60]) == 119
    assert len([at for at in scans if at >= 60]) == 1


def test_processes_of_a_tree_that_is_ready_are_recorded_at_once(tmp_path: Path) -> None:
    """Without a mark, which vLLM's processes lose, and without a scan, which may be half a minute away."""
    tree = tree_of(STUBBORN, tmp_path / "log")
    assert wait_for(lambda: len(tree.processes()) == 2)
    (Path(tree.scratch) / reaper.RECORD).write_text("{}\n")
    tree.watch()
    lines = [json.loads(line) for line in (Path(tree.scratch) / reaper.RECORD).read_text().splitlines()]
    noted = {line["process"][0] for line in lines if "process" in line}
    assert {p.pid for p in tree.processes()} <= noted
    tree.stop()
