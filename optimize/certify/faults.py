"""The faults: how each run is arranged, and how the damage is done. All of it is real: signals, limits, requests."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
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


# -- arrangements


@contextmanager
def plain(testbed: Testbed, mitigated: bool, props: dict[str, Any]) -> Iterator[Setup]:
    yield testbed.arrangement()


@contextmanager
def standby(testbed: Testbed, mitigated: bool, props: dict[str, Any]) -> Iterator[Setup]:
    found = testbed.arrangement()
    yield replace(found, serve=replace(found.serve, standby=mitigated))


@contextmanager
def limited_memory(testbed: Testbed, mitigated: bool, props: dict[str, Any]) -> Iterator[Setup]:
    with memory_group() as group:
        props[MEMORY] = group
        yield replace(testbed.arrangement(), cgroups=(str(group.folder),))


@contextmanager
def shrunk_cache(testbed: Testbed, mitigated: bool, props: dict[str, Any]) -> Iterator[Setup]:
    found = testbed.arrangement()
    yield (
        found
        if mitigated
        else found.with_flags(num_gpu_blocks_override=testbed.settings.shrunk_blocks or testbed.fewest_blocks)
    )


@contextmanager
def limited_beams(testbed: Testbed, mitigated: bool, props: dict[str, Any]) -> Iterator[Setup]:
    """Without: every beam that the engine accepts. With: two, and no more than eight in flight together."""
    limits = {"beams_max": 2, "beams_together": 8, "beams_dynamic": True} if mitigated else {"beams_dynamic": False}
    found = testbed.arrangement()
    yield replace(found, serve=replace(found.serve, **{"beams_together": 1 << 20, **limits}))  # type: ignore[arg-type]


@contextmanager
def own_checkpoint(testbed: Testbed, mitigated: bool, props: dict[str, Any]) -> Iterator[Setup]:
    """A copy of the checkpoint that may be taken away, or be slow."""
    with tempfile.TemporaryDirectory(prefix="certify-") as folder, ExitStack() as held:
        source, copy = Path(testbed.chosen.config.engine.checkpoint), Path(folder) / "checkpoint"
        if not source.is_dir():
            raise Denied(f"the checkpoint {source} is no local folder, so it cannot be taken away")
        shutil.copytree(source, copy)
        props[CHECKPOINT] = copy
        found = replace(testbed.arrangement(), engine=replace(testbed.chosen.config.engine, checkpoint=str(copy)))
        if props.pop("slow", False):
            speed = int(testbed.settings.disk_mib_per_s * 2**20)
            found = replace(found, cgroups=(str(held.enter_context(disk_group(copy, speed))),))
        yield replace(found, serve=replace(found.serve, standby=mitigated))


@contextmanager
def slow_checkpoint(testbed: Testbed, mitigated: bool, props: dict[str, Any]) -> Iterator[Setup]:
    props["slow"] = True
    with own_checkpoint(testbed, mitigated, props) as found:
        yield found


# -- damage


def kill(scene: FaultContext) -> None:
    """What the out-of-memory killer does: SIGKILL to the process that holds most memory."""
    victim = max(scene.processes(), key=lambda p: p.memory_info().rss)
    scene.notes.append(f"killed {victim.name()}")
    victim.kill()


def exhaust_memory(scene: FaultContext) -> None:
    """Bound the memory: lower and lower until the kernel kills, or, mitigated, at all that the engine can come to hold
    and some headroom.

    The KV cache of vLLM's CPU build is not in memory until it is used, and vLLM uses all its blocks in turn: what an
    engine holds grows under the steadiest load until every block was used once. Once the kernel has killed, the
    shortage is over, as when a neighbour has gone: under a bound that stays, what restarts would be killed again.
    """
    group: MemoryGroup = scene.props[MEMORY]
    used, current = group.used_bytes(), scene.engine.supervisor.current
    assert current is not None
    if scene.mitigated:
        pool = current.engine.memory().kv_pool_bytes
        limit = int((1 + scene.testbed.settings.headroom) * (used + pool))
        scene.notes.append(f"limit {_mib(limit)}: {_mib(used)} in use, {_mib(pool)} of KV cache, and headroom")
        group.limit(limit)
        return
    try:
        if not watch(scene.flow, lambda: _squeezed_to_death(scene, group), scene.flow.clock() + _KILLED_MAX_S):
            raise Denied(f"the kernel killed nothing within {_KILLED_MAX_S:g} s, however little memory it was left")
    finally:
        group.limit(None)
    scene.notes.append(f"limit lowered from {_mib(used)} in use under normal load until the kernel killed, then lifted")


def _squeezed_to_death(scene: FaultContext, group: MemoryGroup) -> bool:
    """Whether the kernel has killed; squeezes on where it has not, and takes that for the time of the fault."""
    if group.kills():
        return True
    scene.injected_at = now()
    group.squeeze()
    return False


def surge(scene: FaultContext) -> None:
    """A few seconds at twice the usual rate, after a quiet time: a shrunk cache holds the quiet time only."""
    scene.flow.follow(Poisson(_SURGE * scene.rate_per_s / _QUIET_SHARE))
    scene.notes.append(f"{_SURGE * scene.rate_per_s / _QUIET_SHARE:.1f}/s for {_SURGE_S:g} s")
    scene.later(_SURGE_S, lambda: scene.flow.follow(Poisson(scene.rate_per_s)))


def overflow_beams(scene: FaultContext) -> None:
    """Requests with more beams than the engine accepts, then a flood of the widest that it does."""
    current = scene.engine.supervisor.current
    assert current is not None
    widest = scene.testbed.settings.beams or accepted_beams(dict(scene.testbed.chosen.config.engine.flags))
    prompt = scene.testbed.plan.workload.prompts[0]
    too_wide = flood(current.engine.endpoint, prompt, 4 * widest, 1, 0.0)
    scene.notes.append(f"{4 * widest} beams, engine asked directly: {too_wide.in_words()}")
    front = scene.engine.front.endpoint
    too_wide = flood(front, prompt, 4 * widest, 1, 0.0)
    scene.notes.append(f"the same through the front: {too_wide.in_words()}")

    def run() -> None:
        answers = flood(front, prompt, widest, 4, _FLOOD_S)
        scene.notes.append(f"flood of {widest} beams from 4 clients: {answers.in_words()}")
        if answers.first_refused_at is not None:
            scene.props["noticed_at"] = answers.first_refused_at

    scene.later(0.0, run)


def freeze(scene: FaultContext) -> None:
    """Stop the API server and let it go on after a while."""
    stopped = _stop_servers(scene)
    scene.later(scene.testbed.settings.freeze_s, lambda: _continue(stopped))


def hang(scene: FaultContext) -> None:
    """Stop the API server for good."""
    _stop_servers(scene)


def _stop_servers(scene: FaultContext) -> list[psutil.Process]:
    current = scene.engine.supervisor.current
    assert current is not None
    port = int(current.engine.endpoint.base_url.rpartition(":")[2])
    serving = [p for p in scene.processes() if _serves(p, port)]
    for process in serving:
        process.send_signal(signal.SIGSTOP)
    scene.notes.append(f"stopped {len(serving)} API server{'s' if len(serving) != 1 else ''}")
    return serving


def _serves(process: psutil.Process, port: int) -> bool:
    """Whether it has connections to clients; the listening socket itself is inherited by others."""
    try:
        found = process.net_connections("tcp")
    except psutil.Error:
        return False
    return any(c.laddr and c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in found)


def _continue(stopped: list[psutil.Process]) -> None:
    for process in stopped:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGCONT)


def disconnect(scene: FaultContext) -> None:
    """Clients that go away after the first piece of a long answer; noticed once the front has let them all go."""
    before = scene.engine.front.counts.left
    gone = break_off(scene.engine.front.endpoint, scene.testbed.plan.workload.prompts[0], _DISCONNECTS)
    scene.injected_at = now()

    for _ in range(500):
        if scene.engine.front.counts.left - before >= gone:
            scene.props["noticed_at"] = now()
            break
        time.sleep(0.01)
    scene.notes.append(f"{gone} clients went away, the front let {scene.engine.front.counts.left - before} go")


def lose_checkpoint(scene: FaultContext) -> None:
    """Take the checkpoint away, kill the engine, and bring the checkpoint back after a while."""
    folder: Path = scene.props[CHECKPOINT]
    away = folder.with_name("away")
    folder.rename(away)
    kill(scene)
    scene.later(scene.testbed.settings.missing_s, lambda: _bring_back(away, folder))


def _bring_back(away: Path, folder: Path) -> None:
    away.rename(folder)


def slow_restart(scene: FaultContext) -> None:
    """Kill the engine; the next one reads its checkpoint from a slow disk, not from memory."""
    drop_page_cache(scene.props[CHECKPOINT])
    kill(scene)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


STANDBY = "warm standby"
FAULTS = {
    scenario.name: scenario
    for scenario in (
        Scenario("kill", "engine process killed (SIGKILL)", standby, kill, FaultContext.restart_noticed_s, STANDBY),
        Scenario(
            "oom", "out-of-memory kill by the kernel", limited_memory, exhaust_memory, FaultContext.restart_noticed_s,
            "memory headroom 20 %", watch_s=10.0,
        ),
        Scenario(
            "paging", "KV cache shrunk until requests wait", shrunk_cache, surge, FaultContext.pressure_s,
            "larger KV cache", rate_share=_QUIET_SHARE, watch_s=_SURGE_S,
        ),
        Scenario(
            "beams", "beam overflow", limited_beams, overflow_beams, FaultContext.noted_s, "dynamic beam limit",
            watch_s=_FLOOD_S,
        ),
        Scenario("freeze", "API server stopped and resumed", plain, freeze, FaultContext.missed_probe_s),
        Scenario("hang", "API server stopped for good", plain, hang, FaultContext.restart_noticed_s),
        Scenario("disconnect", "clients gone in mid-stream", plain, disconnect, FaultContext.noted_s),
        Scenario(
            "checkpoint", "checkpoint missing at the restart", own_checkpoint, lose_checkpoint,
            FaultContext.restart_noticed_s, STANDBY,
        ),
        Scenario(
            "slow_disk", "checkpoint on a slow disk at the restart", slow_checkpoint, slow_restart,
            FaultContext.restart_noticed_s,
        ),
    )
}  # fmt: skip
