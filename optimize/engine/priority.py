"""Who comes first on the processors.

Load clients stand for other machines, and must not wait for a processor behind the engine that they measure. Clients
and engines therefore run at nice values `CLIENT_LEAD` apart: clients are raised where the system permits it, and
engines give way elsewhere.

Where Linux shares out the processors by session (sched(7), "The autogroup feature"), a nice value counts only among
the processes of one session. So clients and engines stay in the session of the study, each in a process group of its
own; the session as a whole competes with other programs at normal priority, as the engine will where it is deployed.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable
from pathlib import Path

CLIENT_LEAD = 5
"""Nice values between clients and engines: enough for a client to be served at once (docs/results/priority.md)."""
_LOWEST = 19
_CAP_SYS_NICE = 23  # capabilities(7): its bit


def clients_are_raised() -> bool:
    """Whether this process may raise priorities, by capability or limit: `raise_client` then has an effect."""
    return _has_capability(_CAP_SYS_NICE) or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20 + CLIENT_LEAD


def _has_capability(bit: int) -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    effective = next((line.split()[1] for line in status if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> bit & 1)


def raise_client() -> None:
    """Have this process, a client, come before the engines, where the system permits it."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - CLIENT_LEAD)


def give_way(pids: Iterable[int], niceness: int) -> None:
    """Lower the priority of processes with all their threads, which Linux schedules one by one."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            for thread in Path(f"/proc/{pid}/task").iterdir():
                _lower(int(thread.name), niceness)


def _lower(thread: int, niceness: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, thread, min(_LOWEST, os.getpriority(os.PRIO_PROCESS, thread) + niceness))
