"""A live vLLM server: readiness, failure, memory, stop."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from objectives import MemoryParts
from optimize.checkpoint import tensor_bytes
from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.failures import MAX_LINE, classify, decisive_lines, device_trouble, port_was_taken
from optimize.engine.fork_client import ForkedTree
from optimize.engine.http_client import client_of
from optimize.engine.log_text import read_log
from optimize.engine.metrics import cache_settings
from optimize.engine.process import ProcessTree, oom_kills
from optimize.engine.stall import StallWatch, effort_of
from optimize.engine.startup import phase_of
from optimize.errors import EngineFailure, FailureKind, TransientFault

_POLL_S = 0.1
_HEALTH_TIMEOUT_S = 0.5  # short: an engine that dies during the request must be found dead at once
_RPC_TIMEOUT_S = 30.0
_RESET_TIMEOUT_S = 10.0
_EXIT_CODE_S, _DEATH_S = 0.5, 1.0
_LISTENERS = Path("/proc/net/tcp")  # proc_net(5): address, state and owner are columns 2, 4 and 8
_LISTENS, _HERE = "0A", ("0100007F", "00000000")  # 127.0.0.1 and any address, in the order of the machine's bytes


class VllmEngine:
    """A live vLLM server on loopback, with an API key of its own.

    Args:
        config: Its configuration.
        tree: Its processes.
        endpoint: Its address and key.
        log_path: File with its output.
        cgroups: Folders of the control groups that it joined.
    """

    def __init__(
        self, config: EngineConfig, tree: ProcessTree, endpoint: Endpoint, log_path: Path, cgroups: Sequence[str] = ()
    ) -> None:
        self._config = config
        self._tree = tree
        self._log_path = log_path
        self._cgroups = cgroups
        self._oom_kills_before = oom_kills(cgroups)
        self._http = client_of(endpoint, _RPC_TIMEOUT_S)
        self.endpoint, self._port = endpoint, int(endpoint.base_url.rpartition(":")[2])

    @property
    def pids(self) -> list[int]:
        return [p.pid for p in self._tree.processes()]

    @property
    def warm(self) -> bool:
        """Whether it was forked by the fork server."""
        return isinstance(self._tree, ForkedTree)

    def wait_ready(self, stall_s: float) -> None:
        """Return once /health answers, however long that takes.

        Args:
            stall_s: Seconds without work after which the start counts as standing still; see `StallWatch`.

        Raises:
            EngineFailure: the engine ended first, or stands still.
            TransientFault: another program took its port.
        """
        watch = StallWatch(stall_s, lambda: effort_of(self._tree.processes(), self._log_path))
        while not self._healthy():
            if self._tree.ended.wait(_POLL_S):
                raise self._failure("start")
            if watch.stalled():
                raise self._standstill(stall_s)
        self._tree.watch()

    def _standstill(self, stall_s: float) -> EngineFailure:
        self._tree.settle_log()
        log = self._log()
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "nothing")
        return EngineFailure(
            FailureKind.TIMEOUT,
            f"engine did nothing for {stall_s:.0f} s while {phase_of(log)} (engine.start_timeout_s); it logged last: "
            f"{last.strip()[:MAX_LINE]}",
            decisive_lines(log),
        )

    def _healthy(self) -> bool:
        # Whether anybody listens is known at once; who it is takes milliseconds, which the engine that starts lacks.
        if not _is_open(self._port) or listener_uid(self._port) != os.getuid():
            return False  # whoever read the port on the command line and took it first must not be sent the key
        try:
            return self._http.get("/health", timeout=_HEALTH_TIMEOUT_S).status_code == 200
        except httpx.HTTPError:
            return False

    def broken(self) -> str | None:
        """Which of its processes died, known at once; None while all live. `check` takes longer and names the cause."""
        return self._tree.broken()

    def check(self) -> None:
        if self._tree.broken():
            self._tree.ended.wait(_EXIT_CODE_S)  # the exit code usually follows the first dead process at once
            raise self._failure("load")

    def _failure(self, phase: str) -> EngineFailure | TransientFault:
        self._tree.settle_log()
        log = self._log()
        if phase == "start" and port_was_taken(log):
            return TransientFault("the engine's port was taken between choosing and binding it")
        failure = classify(log, self._tree.exit_code, oom_kills(self._cgroups) - self._oom_kills_before, phase)
        if remedy := device_trouble(next(iter(failure.evidence), "")):
            return TransientFault(f"{failure}; {remedy}")
        if self._tree.exit_code is None and (broken := self._tree.broken()):
            return EngineFailure(failure.kind, f"{failure} ({broken})", failure.evidence)
        return failure

    def _log(self) -> str:
        try:
            return read_log(self._log_path)
        except OSError as error:  # a full disk, or somebody removed it: the exit code says something too
            return f"its log cannot be read: {error}"

    def reset(self) -> None:
        # Requests that the last load abandoned hold their blocks for a moment, and a block in use cannot be reset.
        deadline = time.monotonic() + _RESET_TIMEOUT_S
        while not _succeeded(self._post("/reset_prefix_cache")):
            if time.monotonic() > deadline:
                raise TransientFault(f"the prefix cache could not be reset within {_RESET_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
        self._rpc("reset_memory_peak")

    def memory(self) -> MemoryParts:
        tree_bytes = self._tree.pss_bytes()  # before the report, which returns freed memory to the kernel
        return memory_parts(self._rpc("memory_report"), tensor_bytes(self._config.checkpoint), tree_bytes)

    def effective(self, names: Sequence[str]) -> dict[str, Any]:
        return dict(self._rpc("effective_values", *names)[0])

    def cache_settings(self) -> dict[str, str]:
        """Settings of the KV cache, by vLLM's names; unlike `memory`, known without the development endpoints."""
        return cache_settings(self._get("/metrics").text)

    def longest_sequence(self) -> int:
        """Tokens of the longest sequence, known without the development endpoints."""
        return int(self._get("/v1/models").json()["data"][0]["max_model_len"])

    def _get(self, path: str) -> httpx.Response:
        return self._answer(path, lambda: self._http.get(path))

    def _rpc(self, method: str, *args: str) -> list[dict[str, Any]]:
        answer = self._post("/collective_rpc", {"method": method, "args": list(args)})
        results = answer.json()["results"] if answer.content else []
        return list(results)

    def _post(self, path: str, body: object = None) -> httpx.Response:
        return self._answer(path, lambda: self._http.post(path, json=body))

    def _answer(self, path: str, ask: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            return ask().raise_for_status()
        except httpx.HTTPError as error:
            if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
                self._await_death()
            self.check()
            raise TransientFault(f"engine did not answer {path}: {error}") from error

    def _await_death(self) -> None:
        """Wait a moment: the kernel closes the connections of a killed process before anybody sees its end."""
        deadline = time.monotonic() + _DEATH_S
        while not self._tree.broken() and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def stop(self) -> None:
        self._http.close()
        self._tree.stop()


def _is_open(port: int) -> bool:
    """Whether a program listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(_HEALTH_TIMEOUT_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listener_uid(port: int) -> int | None:
    """User whose program listens on a port of 127.0.0.1, this one where the kernel does not say; None for nobody."""
    try:
        lines = _LISTENERS.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return os.getuid()
    for line in lines:
        _, local, _, state, _, _, _, uid, *_ = line.split()
        address, _, number = local.partition(":")
        if state == _LISTENS and address in _HERE and int(number, 16) == port:
            return int(uid)
    return None


def memory_parts(reports: Sequence[Mapping[str, Any]], checkpoint: int, tree_bytes: int) -> MemoryParts:
    """The parts of an engine's memory from its workers' reports.

    vLLM hands on the reports of the first engine's workers alone where data parallelism runs several; these are alike,
    so what the first one holds counts once for each.

    Args:
        reports: Of `WorkerExtension.memory_report`.
        checkpoint: Bytes of the checkpoint's tensors, for weights that a kernel hides.
        tree_bytes: Proportional set size of all processes.
    """
    copies = int(reports[0].get("copies", 1))

    def total(name: str) -> int | None:
        """Sum of one part over all workers of all copies; None where a worker does not report it."""
        values = [report.get(name) for report in reports]
        return None if None in values else copies * sum(int(v) for v in values if v is not None)

    return MemoryParts(
        weights_bytes=total("weights_bytes") or copies * checkpoint,
        kv_pool_bytes=total("kv_pool_bytes") or 0,
        kv_block_tokens=int(reports[0]["kv_block_tokens"]),
        kv_block_bytes=sum(int(r["kv_block_bytes"]) for r in reports),
        max_sequences=copies * int(reports[0]["max_sequences"]),
        activations_bytes=total("activations_bytes"),
        process_tree_bytes=tree_bytes,
        checkpoint_bytes=checkpoint,
        kv_resident_bytes=total("kv_resident_bytes"),
        device_bytes=total("device_bytes"),
        graphs_bytes=total("graphs_bytes"),
        context_bytes=total("context_bytes"),
    )


def _succeeded(answer: httpx.Response) -> bool:
    """Whether a reset took effect; an answer without a body, as some releases give, counts as success."""
    return not answer.content or bool(answer.json().get("success", True))
