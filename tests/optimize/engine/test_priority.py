from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.engine import priority, vllm
from optimize.engine.priority import CLIENT_LEAD, clients_are_raised, give_way
from optimize.engine.process import ColdTree
from optimize.engine.vllm import VllmLauncher
from optimize.load.client_pool import ClientPool

_OPTIMIZE = Path(priority.__file__).parents[1]
_THREADS = "import threading; [threading.Thread(target=input).start() for _ in range(2)]; print('ready', flush=True)"


def test_every_thread_of_a_process_gives_way() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        before = os.getpriority(os.PRIO_PROCESS, process.pid)
        give_way([process.pid, 2**22 - 1], 3)  # the second has ended long ago
        threads = [int(t.name) for t in Path(f"/proc/{process.pid}/task").iterdir()]
        niceness = [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads]
        process.communicate("\n\n")
    assert niceness == [min(19, before + 3)] * 3


@pytest.mark.parametrize(("raised", "expected"), [(True, 0), (False, CLIENT_LEAD)])
def test_engines_give_way_where_clients_cannot_be_raised(
    raised: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "clients_are_raised", lambda: raised)
    assert VllmLauncher()._steps_behind_clients() == expected
    assert VllmLauncher(niceness=7)._steps_behind_clients() == 7


def test_clients_come_first_in_the_session_of_the_study() -> None:
    with ClientPool(1) as clients:
        clients.begin()
        (pid,) = clients.pids
        lead = CLIENT_LEAD if clients_are_raised() else 0
        expected = max(-20, os.getpriority(os.PRIO_PROCESS, 0) - lead)
        while os.getpriority(os.PRIO_PROCESS, pid) != expected:
            assert Path(f"/proc/{pid}").exists()
        assert (os.getsid(pid), os.getpgid(pid)) == (os.getsid(0), pid)


def test_an_engine_stays_in_the_session_of_the_study_and_out_of_its_process_group(tmp_path: Path) -> None:
    code = "import os; print(os.getsid(0), os.getpgid(0) == os.getpid())"
    tree = ColdTree([sys.executable, "-c", code], dict(os.environ), tmp_path / "log", 0.2)
    assert tree.ended.wait(60)
    tree.stop()
    assert (tmp_path / "log").read_text() == f"{os.getsid(0)} True\n"


def test_nothing_leaves_the_session() -> None:
    """Nice values count among the processes of one session only."""
    for module in _OPTIMIZE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.keyword) and node.arg == "start_new_session"), module
            assert not (isinstance(node, ast.Attribute) and node.attr == "setsid"), module


@pytest.mark.parametrize(("effective", "limit", "expected"), [(1 << 23, 0, True), (0, 25, True), (0, 24, False)])
def test_raising_needs_a_capability_or_a_limit(
    effective: int, limit: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = f"Name:\tpython\nCapEff:\t{effective:016x}\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: status)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert clients_are_raised() is expected
