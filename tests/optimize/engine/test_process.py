"""The reaper leaves nothing behind, however a tree or its owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from optimize.engine.process import ColdTree

# A process that starts a grandchild which ignores SIGTERM and leaves its parent's session.
STUBBORN = """
import os, signal, subprocess, sys, time
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", ignore], start_new_session=True)
print("up", flush=True)
time.sleep(300)
"""


def tree_of(code: str, log: Path, grace_s: float = 0.2) -> ColdTree:
    return ColdTree([sys.executable, "-c", code], os.environ, log, grace_s)


def wait_for(condition: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_stop_ends_descendants_that_left_the_session_and_ignore_sigterm(tmp_path: Path) -> None:
    tree = tree_of(STUBBORN, tmp_path / "log")
    assert wait_for(lambda: len(tree.processes()) == 2)
    pids = [p.pid for p in tree.processes()]
    tree.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_exit_code_is_reported(tmp_path: Path) -> None:
    tree = tree_of("raise SystemExit(3)", tmp_path / "log")
    assert tree.ended.wait(10)
    assert tree.exit_code == 3
    assert tree.broken() == "main process ended"
    tree.stop()


def test_signal_is_reported_as_negative_code(tmp_path: Path) -> None:
    tree = tree_of("import os; os.kill(os.getpid(), 9)", tmp_path / "log")
    assert tree.ended.wait(10)
    assert tree.exit_code == -signal.SIGKILL
    tree.stop()


def test_orphans_of_a_dead_main_process_are_ended(tmp_path: Path) -> None:
    tree = tree_of(STUBBORN.replace("time.sleep(300)\n", "time.sleep(0.3)\n"), tmp_path / "log")
    assert wait_for(lambda: len(tree.processes()) == 2)
    pids = [p.pid for p in tree.processes()]
    assert tree.ended.wait(10)
    assert wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    tree.stop()


def test_death_of_a_watched_child_breaks_the_tree(tmp_path: Path) -> None:
    tree = tree_of(STUBBORN, tmp_path / "log")
    assert wait_for(lambda: len(tree.processes()) == 2)
    tree.watch()
    assert tree.broken() is None
    tree.processes()[-1].kill()
    assert wait_for(lambda: tree.broken() is not None)
    tree.stop()


def test_output_is_kept_in_the_log(tmp_path: Path) -> None:
    tree = tree_of("print('hello')", tmp_path / "log")
    assert tree.ended.wait(10)
    tree.stop()
    assert (tmp_path / "log").read_text() == "hello\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_of_the_owner_ends_the_tree(tmp_path: Path, number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time; from pathlib import Path; from optimize.engine.process import ColdTree;"
            f"t = ColdTree([sys.executable, '-c', {STUBBORN!r}], os.environ, Path({str(tmp_path / 'log')!r}), 0.2);\n"
            "while len(t.processes()) < 2: time.sleep(0.02)\n"
            "print(*[p.pid for p in t.processes()], flush=True); time.sleep(300)",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2
    owner.send_signal(number)
    owner.wait()
    owner.stdout.close()
    assert wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))


@pytest.mark.parametrize("ends", ["stopped", "killed"])
def test_shared_memory_of_a_tree_is_removed_and_nobody_elses(tmp_path: Path, ends: str) -> None:
    code = (
        "import time\nfrom multiprocessing import resource_tracker\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "resource_tracker.register = lambda *_: None  # as in vLLM, whose tracker is killed with the rest\n"
        "s = SharedMemory(create=True, size=4096); print(s.name, flush=True); time.sleep(300)"
    )
    mine = SharedMemory(create=True, size=4096)
    try:
        tree = tree_of(code, tmp_path / "log")
        log = tmp_path / "log"
        assert wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
        segment = Path("/dev/shm") / log.read_text().strip()
        later = SharedMemory(create=True, size=4096)
        assert segment.exists()
        time.sleep(0.7)  # the reaper looks twice a second while a tree is young
        if ends == "killed":
            tree.processes()[0].kill()
            assert tree.ended.wait(10)
        tree.stop()
        assert not segment.exists()
        assert all((Path("/dev/shm") / s.name).exists() for s in (mine, later))
        later.close()
        later.unlink()
    finally:
        mine.close()
        mine.unlink()


def test_semaphores_that_carry_a_process_id_of_the_tree_are_removed_with_it(tmp_path: Path) -> None:
    """Joblib's named semaphores: nobody holds their files open."""
    code = (
        "import os, pathlib, time\npath = pathlib.Path(f'/dev/shm/sem.loky-{os.getpid()}-abc'); path.touch()\n"
        "print(path, flush=True); time.sleep(300)"
    )
    log, other = tmp_path / "log", Path("/dev/shm/sem.loky-1-abc")
    other.touch()
    try:
        tree = tree_of(code, log)
        assert wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
        semaphore = Path(log.read_text().strip())
        assert semaphore.exists()
        time.sleep(0.7)  # the reaper looks twice a second while a tree is young
        tree.processes()[0].kill()
        assert tree.ended.wait(10)
        tree.stop()
        assert not semaphore.exists() and other.exists()
    finally:
        other.unlink()


def test_niceness_applies_to_the_engine_s_session_too(tmp_path: Path) -> None:
    code = (
        "import os\nfrom optimize.engine.serve import lower_priority\n"
        "lower_priority()\ngroup = '/proc/self/autogroup'\n"
        "print(os.nice(0)); print(open(group).read() if os.path.exists(group) else '')"
    )
    tree = ColdTree([sys.executable, "-c", code], {**os.environ, "OPTIMIZE_NICENESS": "7"}, tmp_path / "log", 0.2)
    assert tree.ended.wait(30)
    tree.stop()
    lines = (tmp_path / "log").read_text().split("\n")
    assert int(lines[0]) == min(19, 7 + os.nice(0))
    assert "nice 7" in lines[1] if Path("/proc/self/autogroup").exists() else lines[1] == ""
