"""Ends of all kinds of the processes that send requests.

Every wait is for an event, with a limit that only a broken client reaches.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from objectives import RequestRecord
from optimize.errors import TransientFault
from optimize.load import client_process
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from tests.conftest import ROOT
from tests.optimize.load.streaming import LIMIT_S, request, serving, wait_for, wait_for_records


def test_a_client_process_that_is_killed_is_a_passing_fault_and_the_next_load_works() -> None:
    with ClientPool() as pool, serving() as endpoint:
        with pytest.raises(TransientFault, match="client process"), pool.loading(endpoint, request()) as run:
            run.follow(ClosedLoop(users=2))
            wait_for_records(run, 3)
            os.kill(pool.pids[0], signal.SIGKILL)
            wait_for(run, lambda: False)
        with pool.loading(endpoint, request()) as run:
            run.follow(ClosedLoop(users=2))
            wait_for_records(run, 3)


def test_client_processes_end_with_the_pool() -> None:
    with ClientPool(2) as pool:
        pool.begin()
        pids = pool.pids
        assert len(pids) == 2 and all(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_client_processes_end_with_a_parent_that_is_killed() -> None:
    script = (
        "from optimize.load.client_pool import ClientPool; pool = ClientPool(2); pool.begin(); "
        "print(*pool.pids, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        clients = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    gone, alive = psutil.wait_procs(clients, timeout=LIMIT_S)
    assert len(gone) == 2 and alive == []


def test_a_pool_grows_up_to_its_limit() -> None:
    pool = ClientPool(1)
    assert [pool.grow(3), pool.size, pool.grow(3), pool.size, pool.grow(3)] == [True, 2, True, 3, False]


def test_a_pool_that_grew_sends_the_next_load_by_all_of_its_processes() -> None:
    with ClientPool() as pool, serving() as endpoint:
        pool.begin()
        pool.grow(2)
        with pool.loading(endpoint, request()) as run:
            run.follow(ClosedLoop(users=4))
            wait_for(run, lambda: len(run.records) >= 8 and all(len(points) >= 2 for points in run.cpu))
        assert len(pool.pids) == len(run.cpu) == 2
        assert all(later >= earlier for points in run.cpu for (_, earlier), (_, later) in itertools.pairwise(points))


def test_a_request_that_fails_within_the_client_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load must not look like one with fewer requests."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)

    async def fail() -> RequestRecord:
        raise RuntimeError("session is closed")

    async def end() -> None:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        load = SimpleNamespace(pending={task: None}, records=[])
        with pytest.raises(RuntimeError):
            client_process._Load._ended(cast(Any, load), task)

    asyncio.run(end())
    assert codes == [1]
