"""The faults: the setup of each run, and the damage, which is real: signals, limits, requests."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from optimize.certify.cgroups import Denied, MemoryGroup, disk_group, memory_group
from optimize.certify.context import CHECKPOINT, MEMORY, FaultContext, Scenario, drop_page_cache, now
from optimize.certify.misbehaving_clients import break_off, flood
from optimize.certify.testbed import Setup, Testbed, watch
from optimize.load.arrivals import Poisson
from optimize.serve.beam_limit import accepted_beams

_SURGE_S, _FLOOD_S = 5.0, 5.0
_QUIET_SHARE, _SURGE = 0.25, 2.0
_DISCONNECTS = 20
_KILLED_MAX_S = 60.0


# -- setups


@contextmanager
def plain(testbed: Testbed, mitigated: bool, resources: dict[str, Any]) -> Iterator[Setup]:
    yield testbed.setup()


@contextmanager
def standby(testbed: Testbed, mitigated: bool, resources: dict[str, Any]) -> Iterator[Setup]:
    yield testbed.setup().with_serve(standby=mitigated)


@contextmanager
def limited_memory(testbed: Testbed, mitigated: bool, resources: dict[str, Any]) -> Iterator[Setup]:
    with memory_group() as group:
        resources[MEMORY] = group
        yield replace(testbed.setup(), cgroups=(str(group.folder),))


@contextmanager
def shrunk_cache(testbed: Testbed, mitigated: bool, resources: dict[str, Any]) -> Iterator[Setup]:
    blocks = testbed.settings.shrunk_blocks or testbed.fewest_blocks
    yield testbed.setup() if mitigated else testbed.setup().with_flags(num_gpu_blocks_override=blocks)


@contextmanager
def limited_beams(testbed: Testbed, mitigated: bool, resources: dict[str, Any]) -> Iterator[Setup]:
    """Bare: every beam that the engine accepts. Mitigated: two per request, and eight in flight at most."""
    limits = {"beams_max": 2, "beams_together": 8, "beams_dynamic": True} if mitigated else {"beams_dynamic": False}
    yield testbed.setup().with_serve(**{"beams_together": 1 << 20, **limits})


@contextmanager
def own_checkpoint(testbed: Testbed, mitigated: bool, resources: dict[str, Any]) -> Iterator[Setup]:
    """A copy of the checkpoint, which can be moved away or read from a slow disk."""
    with tempfile.TemporaryDirectory(prefix="certify-") as folder, ExitStack() as stack:
        source, copy = Path(testbed.target.config.engine.checkpoint), Path(folder) / "checkpoint"
        if not source.is_dir():
            raise Denied(f"the checkpoint {source} is not a local folder, so it cannot be moved away")
        shutil.copytree(source, copy)
        resources[CHECKPOINT] = copy
        setup = replace(testbed.setup(), engine=replace(testbed.target.config.engine, checkpoint=str(copy)))
        if resources.pop("slow", False):
            speed = int(testbed.settings.disk_mib_per_s * 2**20)
            setup = replace(setup, cgroups=(str(stack.enter_context(disk_group(copy, speed))),))
        yield setup.with_serve(standby=mitigated)


@contextmanager
def slow_checkpoint(testbed: Testbed, mitigated: bool, resources: dict[str, Any]) -> Iterator[Setup]:
    resources["slow"] = True
    with own_checkpoint(testbed, mitigated, resources) as setup:
        yield setup


# -- damage


def kill(context: FaultContext) -> None:
    """SIGKILL to the process that holds most memory, as the out-of-memory killer sends it."""
    victim = max(context.processes(), key=lambda p: p.memory_info().rss)
    context.notes.append(f"killed {victim.name()}")
    victim.kill()


def exhaust_memory(context: FaultContext) -> None:
    """Limit the memory, ever lower until the kernel kills; mitigated, to the engine's maximum plus headroom.

    The KV cache of vLLM's CPU build takes no memory until it is used, and vLLM uses its blocks in turn, so an engine's
    memory grows under the steadiest load until every block has been used once. The limit is lifted once the kernel has
    killed, as when a neighbour has freed memory: under a lasting limit, the restarted engine would be killed again.
    """
    group: MemoryGroup = context.resources[MEMORY]
    used, current = group.used_bytes(), context.engine.supervisor.current
    assert current is not None
    if context.mitigated:
        pool = _pool_bytes(current.engine.cache_settings())
        limit = int((1 + context.testbed.settings.headroom) * (used + pool))
        context.notes.append(f"limit {_mib(limit)}: {_mib(used)} in use, {_mib(pool)} of KV cache, and headroom")
        group.limit(limit)
        return
    try:
        if not watch(context.load, lambda: _squeezed_to_death(context, group), context.load.clock() + _KILLED_MAX_S):
            raise Denied(f"the kernel killed nothing within {_KILLED_MAX_S:g} s, however low the limit was")
    finally:
        group.limit(None)
    context.notes.append(
        f"limit lowered from the {_mib(used)} in use under normal load until the kernel killed, then lifted"
    )


def _pool_bytes(cache: Mapping[str, str]) -> int:
    """Bytes of the KV cache in the machine's memory: none on a GPU, where the setting stays "None"."""
    setting = cache.get("kv_cache_memory_bytes", "None")
    return 0 if setting == "None" else int(setting)


def _squeezed_to_death(context: FaultContext, group: MemoryGroup) -> bool:
    """Whether the kernel has killed; if not, lower the limit further and take now as the time of the fault."""
    if group.kills():
        return True
    context.injected_at = now()
    group.squeeze()
    return False


def surge(context: FaultContext) -> None:
    """Twice the usual rate for a few seconds after a quarter of it: a shrunk cache holds only the quarter."""
    context.load.follow(Poisson(_SURGE * context.rate_per_s / _QUIET_SHARE))
    context.notes.append(f"{_SURGE * context.rate_per_s / _QUIET_SHARE:.1f}/s for {_SURGE_S:g} s")
    context.later(_SURGE_S, lambda: context.load.follow(Poisson(context.rate_per_s)))


def overflow_beams(context: FaultContext) -> None:
    """Requests with more beams than the engine accepts, then a flood with as many as it does accept."""
    current = context.engine.supervisor.current
    assert current is not None
    widest = context.testbed.settings.beams or accepted_beams(dict(context.testbed.target.config.engine.flags))
    prompt = context.testbed.plan.workload.prompts[0]
    too_wide = flood(current.engine.endpoint, prompt, 4 * widest, 1, 0.0)
    context.notes.append(f"{4 * widest} beams, sent to the engine: {too_wide.in_words()}")
    front = context.engine.front.endpoint
    too_wide = flood(front, prompt, 4 * widest, 1, 0.0)
    context.notes.append(f"{4 * widest} beams, through the front: {too_wide.in_words()}")

    def run() -> None:
        answers = flood(front, prompt, widest, 4, _FLOOD_S)
        context.notes.append(f"flood of {widest} beams from 4 clients: {answers.in_words()}")
        if answers.first_refused_at is not None:
            context.resources["detected_at"] = answers.first_refused_at

    context.later(0.0, run)


def freeze(context: FaultContext) -> None:
    """Stop the API server, and resume it after `certify.freeze_s`."""
    stopped = _stop_servers(context)
    context.later(context.testbed.settings.freeze_s, lambda: _resume(stopped))


def hang(context: FaultContext) -> None:
    """Stop the API server and do not resume it."""
    _stop_servers(context)


def _stop_servers(context: FaultContext) -> list[psutil.Process]:
    current = context.engine.supervisor.current
    assert current is not None
    port = int(current.engine.endpoint.base_url.rpartition(":")[2])
    servers = [p for p in context.processes() if _serves(p, port)]
    for process in servers:
        process.send_signal(signal.SIGSTOP)
    context.notes.append(f"stopped {len(servers)} API server{'s' if len(servers) != 1 else ''}")
    return servers


def _serves(process: psutil.Process, port: int) -> bool:
    """Whether it has connections to clients; the listening socket itself is inherited by other processes."""
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:
        return False
    return any(c.laddr and c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in connections)


def _resume(stopped: list[psutil.Process]) -> None:
    for process in stopped:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGCONT)


def disconnect(context: FaultContext) -> None:
    """Clients that disconnect during a long answer; detected once the front has cancelled all their requests."""
    before = context.engine.front.counts.left
    gone = break_off(context.engine.front.endpoint, context.testbed.plan.workload.prompts[0], _DISCONNECTS)
    context.injected_at = now()

    for _ in range(500):
        if context.engine.front.counts.left - before >= gone:
            context.resources["detected_at"] = now()
            break
        time.sleep(0.01)
    context.notes.append(
        f"{gone} clients disconnected, the front cancelled {context.engine.front.counts.left - before} requests"
    )


def lose_checkpoint(context: FaultContext) -> None:
    """Move the checkpoint away, kill the engine, and restore the checkpoint after `certify.missing_s`."""
    folder: Path = context.resources[CHECKPOINT]
    away = folder.with_name("away")
    folder.rename(away)
    kill(context)
    context.later(context.testbed.settings.missing_s, lambda: _restore(away, folder))


def _restore(away: Path, folder: Path) -> None:
    away.rename(folder)


def slow_restart(context: FaultContext) -> None:
    """Kill the engine, whose successor reads its checkpoint from a slow disk and not from the page cache."""
    drop_page_cache(context.resources[CHECKPOINT])
    kill(context)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


STANDBY = "warm standby"
FAULTS = {
    scenario.name: scenario
    for scenario in (
        Scenario("kill", "engine process killed (SIGKILL)", standby, kill, FaultContext.restart_detected_s, STANDBY),
        Scenario(
            "oom", "out-of-memory kill by the kernel", limited_memory, exhaust_memory, FaultContext.restart_detected_s,
            "memory headroom 20 %", watch_s=10.0,
        ),
        Scenario(
            "paging", "KV cache shrunk until requests wait", shrunk_cache, surge, FaultContext.pressure_s,
            "larger KV cache", rate_share=_QUIET_SHARE, watch_s=_SURGE_S,
        ),
        Scenario(
            "beams", "beam overflow", limited_beams, overflow_beams, FaultContext.event_s, "dynamic beam limit",
            watch_s=_FLOOD_S,
        ),
        Scenario("freeze", "API server stopped and resumed", plain, freeze, FaultContext.missed_probe_s),
        Scenario("hang", "API server stopped for good", plain, hang, FaultContext.restart_detected_s),
        Scenario("disconnect", "clients gone in mid-stream", plain, disconnect, FaultContext.event_s),
        Scenario(
            "checkpoint", "checkpoint missing at the restart", own_checkpoint, lose_checkpoint,
            FaultContext.restart_detected_s, STANDBY,
        ),
        Scenario(
            "slow_disk", "checkpoint on a slow disk at the restart", slow_checkpoint, slow_restart,
            FaultContext.restart_detected_s,
        ),
    )
}  # fmt: skip
