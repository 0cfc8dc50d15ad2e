import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optimize.certify.cgroups import Denied, MemoryGroup, memory_group, own_group


def test_version_1_has_a_group_for_each_controller(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    lines = ["4:memory:/a/b", "1:cpu,cpuacct:/", "0::/"]
    assert own_group(lines, "memory", tmp_path) == (tmp_path / "memory/a/b", 1)


def test_version_2_has_one_group_for_all_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    assert own_group(["0::/user.slice"], "memory", tmp_path) == (tmp_path / "user.slice", 2)


def test_a_missing_mount_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="no control group of 'memory'"):
        own_group(["0::/"], "memory", tmp_path)


@pytest.mark.parametrize(("version", "name", "lifted"), [(1, "memory.limit_in_bytes", "-1"), (2, "memory.max", "max")])
def test_a_limit_is_set_and_lifted(tmp_path: Path, version: int, name: str, lifted: str) -> None:
    group = MemoryGroup(tmp_path, version)
    group.limit(1 << 20)
    assert (tmp_path / name).read_text() == "1048576"
    group.limit(None)
    assert (tmp_path / name).read_text() == lifted


@pytest.mark.parametrize(
    ("version", "name", "before"),
    [(1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"), (2, "memory.events", "max 9\noom 3\n")],
)
def test_kills_by_the_kernel_are_counted(tmp_path: Path, version: int, name: str, before: str) -> None:
    (tmp_path / name).write_text(before + "oom_kill 2\n")
    assert MemoryGroup(tmp_path, version).kills() == 2


def test_the_kernel_kills_a_squeezed_process_that_allocates_more() -> None:
    program = "held = []\nwhile True: held.append(bytearray(1 << 16)); time.sleep(0.01)"
    begin = f"import sys, time; sys.stdin.readline(); print('begun', flush=True)\n{program}"
    command, pipe = [sys.executable, "-c", begin], subprocess.PIPE
    try:
        with memory_group() as group, subprocess.Popen(command, stdin=pipe, stdout=pipe) as held:
            (group.folder / "cgroup.procs").write_text(str(held.pid))
            assert held.stdin is not None and held.stdout is not None and group.kills() == 0
            held.stdin.write(b"\n")
            held.stdin.flush()
            held.stdout.readline()
            deadline = time.monotonic() + 20
            while not group.kills() and time.monotonic() < deadline:
                group.squeeze()
                time.sleep(0.01)
            held.kill()  # in vain where the kernel has
            assert held.wait() == -signal.SIGKILL and group.kills() == 1
    except Denied as denied:
        pytest.skip(f"this system lets nobody limit memory: {denied}")
