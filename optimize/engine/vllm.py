"""vLLM's OpenAI server as a process tree of its own: launch, readiness, failure, memory, stop."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from objectives import MemoryParts
from optimize.checkpoint import tensor_bytes
from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.failures import classify, port_was_taken
from optimize.engine.flags import check_flags, to_arguments, vllm_distribution, vllm_root
from optimize.engine.fork_client import WarmStarter, WarmTree
from optimize.engine.process import ColdTree, ProcessTree, oom_kills
from optimize.errors import ConfigError, EngineFailure, FailureKind, OptimizeError, TransientFault

_log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.1
_HEALTH_TIMEOUT_S = 0.5  # short: an engine that dies while it is asked must be found dead at once
_RPC_TIMEOUT_S = 30.0
_RESET_TIMEOUT_S = 10.0
_MODEL_NAME = "model"
_CGROUPS, _NICENESS = "OPTIMIZE_CGROUPS", "OPTIMIZE_NICENESS"  # read by optimize.engine.serve
_KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
# Inherited settings that would give engines started from here other threads than a hand-started one has.
_NOT_INHERITED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class VllmEngine:
    """A live vLLM server on loopback, with a key of its own."""

    def __init__(
        self, config: EngineConfig, tree: ProcessTree, endpoint: Endpoint, log_path: Path, cgroups: Sequence[str] = ()
    ) -> None:
        self._config = config
        self._tree = tree
        self._log_path = log_path
        self._cgroups = cgroups
        self._oom_kills_before = oom_kills(cgroups)
        self._http = httpx.Client(base_url=endpoint.base_url, headers=endpoint.headers, timeout=_RPC_TIMEOUT_S)
        self.endpoint = endpoint

    @property
    def pids(self) -> list[int]:
        return [p.pid for p in self._tree.processes()]

    @property
    def warm(self) -> bool:
        """Whether it was forked from a preloaded process."""
        return isinstance(self._tree, WarmTree)

    def wait_ready(self, timeout_s: float) -> None:
        """Return once /health answers.

        Raises:
            EngineFailure: it ended first, or did not answer in time.
            TransientFault: its port was taken by somebody else.
        """
        deadline = time.monotonic() + timeout_s
        while not self._healthy():
            if self._tree.ended.wait(_POLL_S):
                raise self._failure("start")
            if time.monotonic() > deadline:
                raise EngineFailure(
                    FailureKind.TIMEOUT,
                    f"engine was not ready within {timeout_s:.0f} s (engine.start_timeout_s)",
                )
        self._tree.watch()

    def _healthy(self) -> bool:
        try:
            return self._http.get("/health", timeout=_HEALTH_TIMEOUT_S).status_code == 200
        except httpx.HTTPError:
            return False

    def broken(self) -> str | None:
        """What is wrong with its processes, at once and in words; None while all live. `check` takes a moment more."""
        return self._tree.broken()

    def check(self) -> None:
        if self._tree.broken():
            self._tree.ended.wait(0.5)  # the exit code usually follows the first dead process at once
            raise self._failure("load")

    def _failure(self, phase: str) -> EngineFailure | TransientFault:
        log = self._log_path.read_text(encoding="utf-8", errors="replace")
        if phase == "start" and port_was_taken(log):
            return TransientFault("the engine's port was taken between choosing and binding it")
        found = classify(log, self._tree.exit_code, oom_kills(self._cgroups) - self._oom_kills_before, phase)
        if self._tree.exit_code is None and (broken := self._tree.broken()):
            return EngineFailure(found.kind, f"{found} ({broken})", found.evidence)
        return found

    def reset(self) -> None:
        # Requests that the last load abandoned hold their blocks for a moment longer, and a held block is not reset.
        deadline = time.monotonic() + _RESET_TIMEOUT_S
        while not _succeeded(self._post("/reset_prefix_cache")):
            if time.monotonic() > deadline:
                raise TransientFault(f"the prefix cache could not be reset within {_RESET_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
        self._rpc("reset_memory_peak")

    def memory(self) -> MemoryParts:
        held = self._tree.pss_bytes()  # before the report, which has freed memory given back
        reports = self._rpc("memory_report")
        checkpoint = tensor_bytes(self._config.checkpoint)
        return MemoryParts(
            weights_bytes=_total(reports, "weights_bytes") or checkpoint,
            kv_pool_bytes=sum(int(r["kv_pool_bytes"]) for r in reports),
            kv_block_tokens=int(reports[0]["kv_block_tokens"]),
            kv_block_bytes=sum(int(r["kv_block_bytes"]) for r in reports),
            max_sequences=int(reports[0]["max_sequences"]),
            activations_bytes=_total(reports, "activations_bytes"),
            process_tree_bytes=held,
            checkpoint_bytes=checkpoint,
            kv_resident_bytes=_total(reports, "kv_resident_bytes"),
            device_bytes=_total(reports, "device_bytes"),
        )

    def effective(self, names: Sequence[str]) -> dict[str, Any]:
        return dict(self._rpc("effective_values", *names)[0])

    def _rpc(self, method: str, *args: str) -> list[dict[str, Any]]:
        answer = self._post("/collective_rpc", {"method": method, "args": list(args)})
        results = answer.json()["results"] if answer.content else []
        return list(results)

    def _post(self, path: str, body: object = None) -> httpx.Response:
        try:
            return self._http.post(path, json=body).raise_for_status()
        except httpx.HTTPError as error:
            self.check()
            raise TransientFault(f"engine did not answer {path}: {error}") from error

    def stop(self) -> None:
        self._http.close()
        self._tree.stop()


def _total(reports: Sequence[Mapping[str, Any]], name: str) -> int | None:
    """A part over all workers; None where one of them cannot tell it."""
    values = [report.get(name) for report in reports]
    return None if None in values else sum(int(v) for v in values if v is not None)


def _succeeded(answer: httpx.Response) -> bool:
    """Whether a reset took effect; releases that answer without a body do not tell, and are believed."""
    return not answer.content or bool(answer.json().get("success", True))


@dataclass
class VllmLauncher:
    """Starts vLLM servers; its fields are the keys of `conf/engine/vllm.yaml`.

    Attributes:
        flags: vLLM flags held fixed in all trials.
        env: Environment variables of every engine.
        start_timeout_s: How long an engine may take until it answers.
        stop_grace_s: Seconds between SIGTERM and SIGKILL.
        compile_cache: Folder of torch's compiled kernels, so that they outlive an engine; None for torch's default.
        start: "warm" forks engines from a process that has imported vLLM, "cold" starts each afresh, "auto" is
            warm where that works here.
        cgroups: Folders of control groups that engines join, e.g. one with a memory limit.
        niceness: How far engines give way to other programs on the processors, 0 (not at all) to 19.
    """

    flags: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    start_timeout_s: float = 600.0
    stop_grace_s: float = 0.5
    compile_cache: str | None = None
    start: str = "auto"
    cgroups: list[str] = field(default_factory=list)
    niceness: int = 19
    request_knobs_only: bool = field(default=False, init=False)
    _warm: WarmStarter | None = field(default=None, init=False, repr=False)
    _proven: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.start not in ("auto", "warm", "cold"):
            raise ConfigError(f"engine.start must be auto, warm or cold, got {self.start!r}")
        if not 0 <= self.niceness <= 19:
            raise ConfigError(f"engine.niceness must be 0 to 19, got {self.niceness}")

    def preflight(self, flag_names: Sequence[str]) -> None:
        vllm_root()
        check_flags([*self.flags, *flag_names])

    def version(self) -> str:
        return " ".join(vllm_distribution())

    def deploy_command(self, config: EngineConfig) -> str:
        flags = {**self.flags, **dict(config.flags)}
        environment = [f"{k}={v}" for k, v in sorted(_unless_overridden(self.env, flags).items())]
        serve = ["vllm", "serve", config.checkpoint, "--host=127.0.0.1", *to_arguments(tuple(flags.items()))]
        return shlex.join([*environment, *serve])

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        """Asked of vLLM in a fork of the preloaded process; without one, the first engine of each has to tell."""
        if not engines or not self._starts_warm() or self._warm is None:
            return {}
        found = {}
        for name, config in engines.items():
            flags = {**self.flags, **dict(config.flags)}
            arguments = [config.checkpoint, *to_arguments(tuple(flags.items()))]
            said = self._warm.ask(arguments, _unless_overridden(self._environment(api_key=""), flags))
            if said is not None:
                found[name] = EngineFailure(FailureKind.REFUSED, f"vLLM cannot serve it here: {said}", (said,))
        return found

    def prepare(self) -> None:
        """Begin importing vLLM in the background, where engines start warm."""
        if self.start != "cold" and self._warm is None:
            self._warm = WarmStarter(self._environment(api_key=""))

    def close(self) -> None:
        if self._warm is not None:
            self._warm.close()
            self._warm = None

    def launch(self, config: EngineConfig, log_path: Path) -> VllmEngine:
        if not self._starts_warm():
            return self._launch(config, log_path, warm=None)
        try:
            engine = self._launch(config, log_path, self._warm)
        except EngineFailure as failure:
            if self._proven or self.start == "warm":
                raise
            # Nothing has started warm yet: is it the configuration that fails, or this way of starting?
            log_path.replace(log_path.with_suffix(".warm"))
            engine = self._launch(config, log_path, warm=None)
            self._go_cold(str(failure))
        self._proven = True
        return engine

    def _starts_warm(self) -> bool:
        if self._warm is None:
            return False
        unfit = self._warm.unfit()
        if unfit is not None and self.start == "warm":
            raise OptimizeError(f"engine.start=warm is not possible here: {unfit}")
        if unfit is not None:
            self._go_cold(unfit)
        return unfit is None

    def _go_cold(self, reason: str) -> None:
        _log.warning("engines start cold from here on: %s", reason)
        self.close()
        self.start = "cold"

    def _launch(self, config: EngineConfig, log_path: Path, warm: WarmStarter | None) -> VllmEngine:
        port, key = free_port(), secrets.token_urlsafe(24)
        flags = {**self.flags, **dict(config.flags)}
        arguments = [
            config.checkpoint, "--host=127.0.0.1", f"--port={port}", f"--served-model-name={_MODEL_NAME}",
            "--worker-extension-cls=optimize.engine.worker_extension.WorkerExtension",
            *to_arguments(tuple(flags.items())),
        ]  # fmt: skip
        env = _unless_overridden(self._environment(key), flags)
        tree: ProcessTree
        if warm is not None:
            tree = warm.start(arguments, env, log_path, self.stop_grace_s)
        else:
            tree = ColdTree(
                [sys.executable, "-m", "optimize.engine.serve", *arguments], env, log_path, self.stop_grace_s
            )
        endpoint = Endpoint(f"http://127.0.0.1:{port}", key, _MODEL_NAME)
        engine = VllmEngine(config, tree, endpoint, log_path, self.cgroups)
        try:
            engine.wait_ready(self.start_timeout_s)
        except BaseException:
            engine.stop()
            raise
        return engine

    def _environment(self, api_key: str) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        own = {
            "VLLM_API_KEY": api_key,  # not on the command line, where every user of the machine could read it
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_SERVER_DEV_MODE": "1",  # /collective_rpc and /reset_prefix_cache; loopback only
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        if self.niceness:
            own[_NICENESS] = str(self.niceness)
        if self.cgroups:
            own[_CGROUPS] = os.pathsep.join(self.cgroups)
        if self.compile_cache is not None:
            own["TORCHINDUCTOR_CACHE_DIR"] = str(Path(self.compile_cache).resolve() / "-".join(vllm_distribution()))
        return {**inherited, **own, **{k: str(v) for k, v in self.env.items()}}


def _unless_overridden(env: Mapping[str, str], flags: Mapping[str, Any]) -> dict[str, str]:
    """Leave out the older, coarser way to size the KV cache on CPU where the flag is given: vLLM would prefer it."""
    return {k: v for k, v in env.items() if k != _KV_SPACE or flags.get("kv_cache_memory_bytes") is None}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
