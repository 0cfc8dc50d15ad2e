"""A fork server that is killed leaves nothing and hangs nobody; it forks an ordinary program in place of vLLM."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.engine import reaper
from optimize.engine.fork_client import ForkClient
from tests.conftest import ROOT
from tests.optimize.engine.trees import STUBBORN, wait_for

SERVER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from optimize.engine import fork_server
fork_server._prepare = lambda: print("a line of some library", flush=True)
fork_server.serve = lambda arguments: exec({STUBBORN!r})
fork_server.main()
"""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkClient]:
    (tmp_path / "server.py").write_text(SERVER)
    wrapper = tmp_path / "python"
    wrapper.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/server.py\n")
    wrapper.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(wrapper))
        client = ForkClient(dict(os.environ))
    yield client
    client.close()


def test_a_killed_fork_server_leaves_nothing_of_its_engine(client: ForkClient, tmp_path: Path) -> None:
    assert client.unavailable_reason() is None, "although a line on its output is no event"
    tree = client.start([], dict(os.environ), tmp_path / "log", 0.2)
    assert wait_for(lambda: len(tree.processes()) == 2)
    pids, scratch = [p.pid for p in tree.processes()], tree.scratch
    os.kill(client.pid, signal.SIGKILL)
    assert tree.ended.wait(60)
    tree.stop()
    assert not any(reaper.started(pid) for pid in pids)
    assert not Path(scratch).exists()


def test_an_engine_of_a_fork_server_that_is_gone_has_ended(client: ForkClient, tmp_path: Path) -> None:
    assert client.unavailable_reason() is None
    os.kill(client.pid, signal.SIGKILL)
    tree = client.start([], dict(os.environ), tmp_path / "log", 0.2)
    assert tree.ended.wait(60)
    tree.stop()
    assert client.unavailable_reason() == "the fork server ended"
