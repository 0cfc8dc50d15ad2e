"""Launcher of vLLM's OpenAI server, forked by a fork server where that works and started cold elsewhere."""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimize.engine.adapters import MODEL, asked_names
from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.command_line import by_reference, out_of_sight, shell_line
from optimize.engine.flags import CPU_BUILD, Installation, check_flags, to_arguments, vllm_distribution, vllm_root
from optimize.engine.fork_client import ForkClient
from optimize.engine.gate import KEY
from optimize.engine.installation import installation, path_to_this_package
from optimize.engine.priority import CLIENT_LEAD, clients_are_raised, give_way
from optimize.engine.process import ColdTree, ProcessTree, free_port
from optimize.engine.proxies import with_direct_loopback
from optimize.engine.revisions import with_commits
from optimize.engine.toolkit import compilers
from optimize.engine.vllm_engine import VllmEngine
from optimize.entries import claim
from optimize.errors import ConfigError, EngineFailure, FailureKind, OptimizeError
from optimize.hardware import visibility

_log = logging.getLogger(__name__)
_NO_LIMIT_S = 7 * 86400  # vLLM's own limit is 600 s, whether a start gets on or not
_CGROUPS = "OPTIMIZE_CGROUPS"  # read by optimize.engine.serve
_START_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
# CUDA vLLM's humming starts threads at its import, and no process with threads can be forked. The kernels are the same.
_WITHOUT_THREADS = {"HUMMING_DISABLE_PARALLEL_BUILD": "1"}
_KV_SPACE, _DEVELOPMENT = "VLLM_CPU_KVCACHE_SPACE", "VLLM_SERVER_DEV_MODE"
# The second replaces the server of which the gate is a part; the third would be one more key, and a part of the
# compilation's (see `optimize.engine.gate`).
_GATED = (_DEVELOPMENT, "VLLM_USE_RUST_FRONTEND", "VLLM_API_KEY")
# With these inherited, an engine would run other threads than one that a user starts by hand.
_NOT_INHERITED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class VllmLauncher:
    """Starts vLLM servers; its constructor's fields are the keys of `conf/engine/vllm.yaml`.

    Attributes:
        flags: vLLM flags held fixed in all trials.
        env: Environment variables of every engine.
        start_timeout_s: How long a starting engine may do nothing; one that works may take as long as it needs.
        stop_grace_s: Seconds between SIGTERM and SIGKILL.
        compile_cache: Folder of compiled graphs and kernels, so that they outlive an engine; None for vLLM's default.
        start: "warm" forks engines from a process that has imported vLLM, "cold" starts each from scratch, "auto"
            is warm where that works.
        niceness: How far engines, once ready, give way to the load's clients, 0 (not at all) to 19; "auto" is 0 where
            the clients may be raised instead, and their distance elsewhere: see `optimize.engine.priority`.
        model: The LoRA adapter that requests ask for, or several in turn; "base" is the model itself. None asks for all
            adapters that the flags name.
        python: Interpreter of another environment that has vLLM, of another release perhaps; None for this one.
    """

    flags: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    start_timeout_s: float = 600.0
    stop_grace_s: float = 0.5
    compile_cache: str | None = None
    start: str = "auto"
    niceness: int | str = "auto"
    model: str | list[str] | None = None
    python: str | None = None
    request_knobs_only: bool = field(default=False, init=False)
    _development: bool = field(default=True, init=False, repr=False)
    _cached_tokens: bool = field(default=False, init=False, repr=False)
    _fork_client: ForkClient | None = field(default=None, init=False, repr=False)
    _imported_with: tuple[tuple[str, str], ...] = field(default=(), init=False, repr=False)
    _forking_proven: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.start not in ("auto", "warm", "cold"):
            raise ConfigError(f"engine.start must be auto, warm or cold, got {self.start!r}")
        if self.niceness != "auto" and self.niceness not in range(20):
            raise ConfigError(f"engine.niceness must be auto or 0 to 19, got {self.niceness!r}")

    def for_clients(self, niceness: int | str) -> VllmLauncher:
        """A launcher of the same engines without vLLM's development endpoints, which only measuring needs."""
        launcher = dataclasses.replace(self, niceness=niceness)
        launcher._development = False
        return launcher

    def preflight(self, flag_names: Sequence[str]) -> None:
        if self.python is None:
            vllm_root()
        check_flags([*self.flags, *flag_names], self._other)

    def version(self) -> str:
        return " ".join(self._distribution())

    @property
    def _other(self) -> Installation | None:
        """The other environment that engines run in; None for this one."""
        return None if self.python is None else installation(self.python, "engine.python")

    @property
    def _python(self) -> str:
        """The interpreter that engines run in."""
        return sys.executable if (other := self._other) is None else other.python

    def _distribution(self) -> tuple[str, str]:
        """(distribution, version) of the vLLM that engines run."""
        return vllm_distribution() if (other := self._other) is None else (other.distribution, other.version)

    def deploy_command(self, config: EngineConfig) -> str:
        flags, env = self._settings(config)
        variables, arguments = by_reference(tuple(flags.items()), _unless_overridden(env, flags))
        return shell_line(variables, ["vllm", "serve", config.checkpoint, "--host=127.0.0.1", *arguments])

    def _settings(self, config: EngineConfig) -> tuple[dict[str, Any], dict[str, str]]:
        """Flags and variables of an engine, which loads the revisions that were hashed, wherever branches have gone.

        A Hugging Face token becomes a variable, as command lines are public.
        """
        flags = with_commits({**self.flags, **dict(config.flags)}, config.checkpoint)
        env = self._variables(config)
        token = flags.pop("hf_token", None)
        return flags, env if token is None else {**env, "HF_TOKEN": str(token)}

    def _variables(self, config: EngineConfig) -> dict[str, str]:
        return {name: str(value) for name, value in {**self.env, **dict(config.env)}.items()}

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        """vLLM's answers in a fork of the fork server; none without one, where each first engine shows it instead."""
        if not engines or not self._forks() or self._fork_client is None:
            return {}
        refusals = {}
        for name, config in engines.items():
            flags, variables = self._settings(config)
            arguments = [config.checkpoint, *to_arguments(tuple(flags.items()))]
            env = _unless_overridden(self._environment("", env=variables), flags)
            reason = self._fork_client.refusal(arguments, env)
            if reason is not None:
                message = f"vLLM cannot serve it here: {reason}"
                refusals[name] = EngineFailure(FailureKind.REFUSED, message, (reason,))
        return refusals

    def report_cached_tokens(self) -> None:
        """Start engines with the flag that has them say it; commands to deploy do without it."""
        self._cached_tokens = True

    def prepare(self) -> None:
        """Begin importing vLLM in the background, unless engines start cold."""
        if self.start != "cold" and self._fork_client is None:
            self._fork_client, self._imported_with = self._import_vllm(self.env), ()

    def close(self) -> None:
        if self._fork_client is not None:
            self._fork_client.close()
            self._fork_client = None

    def launch(self, config: EngineConfig, log_path: Path, cgroups: Sequence[str] = ()) -> VllmEngine:
        """Start an engine, as `Launcher.launch`.

        Args:
            config: The configuration.
            log_path: File for the engine's output.
            cgroups: Folders of the control groups that the engine joins, e.g. one with a memory limit.
        """
        self._import_for(config)
        if not self._forks():
            return self._launch(config, log_path, cgroups, None)
        try:
            engine = self._launch(config, log_path, cgroups, self._fork_client)
        except EngineFailure as failure:
            if self._forking_proven or self.start == "warm":
                raise
            # No engine has been forked yet, so either the configuration or forking itself can be at fault.
            log_path.replace(log_path.with_suffix(".warm"))
            engine = self._launch(config, log_path, cgroups, None)
            self._stop_forking(str(failure))
        self._forking_proven = True
        return engine

    def _import_for(self, config: EngineConfig) -> None:
        """Have vLLM imported with an engine's own variables: libraries read some of theirs when they are loaded."""
        if self._fork_client is not None and config.env != self._imported_with:
            self._fork_client.close()
            self._fork_client = self._import_vllm(self._variables(config))
            self._imported_with = config.env

    def _import_vllm(self, variables: Mapping[str, str]) -> ForkClient:
        return ForkClient(self._environment("", env=variables), self._python)

    def _forks(self) -> bool:
        if self._fork_client is None:
            return False
        reason = self._fork_client.unavailable_reason()
        if reason is not None and self.start == "warm":
            raise OptimizeError(f"engine.start=warm is not possible here: {reason}")
        if reason is not None:
            self._stop_forking(reason)
        return reason is None

    def _stop_forking(self, reason: str) -> None:
        _log.warning("engines start cold from now on: %s", reason)
        self.close()
        self.start = "cold"

    def _launch(
        self, config: EngineConfig, log_path: Path, cgroups: Sequence[str], client: ForkClient | None
    ) -> VllmEngine:
        port, key = free_port(), secrets.token_urlsafe(24)
        flags, variables = self._settings(config)
        arguments = self.arguments(config.checkpoint, port, flags)
        env = _unless_overridden(self._environment(key, cgroups, variables), flags)
        tree = self._tree(arguments, env, log_path, client)
        first, *others = asked_names(flags, self.model)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", key, first, others=tuple(others))
        engine = VllmEngine(config, tree, endpoint, log_path, cgroups)
        try:
            engine.wait_ready(self.start_timeout_s)
            give_way(engine.pids, self._steps_behind_clients())
        except BaseException:
            engine.stop()
            raise
        return engine

    def arguments(self, checkpoint: str, port: int, flags: Mapping[str, Any]) -> list[str]:
        """The arguments that an engine is started with here, its flags after those that measuring needs."""
        return [
            checkpoint, "--host=127.0.0.1", f"--port={port}", f"--served-model-name={MODEL}",
            "--worker-extension-cls=optimize.engine.worker_extension.WorkerExtension",
            *(["--enable-prompt-tokens-details"] if self._cached_tokens else []),
            *to_arguments(tuple(flags.items())), "--middleware=optimize.engine.gate.Gate",
        ]  # fmt: skip

    def _steps_behind_clients(self) -> int:
        if self.niceness == "auto":
            return 0 if clients_are_raised() else CLIENT_LEAD
        return int(self.niceness)

    def _tree(
        self, arguments: Sequence[str], env: Mapping[str, str], log_path: Path, client: ForkClient | None
    ) -> ProcessTree:
        if client is not None:
            return client.start(arguments, env, log_path, self.stop_grace_s)
        shown, hidden = out_of_sight(arguments)
        command = [self._python, "-m", "optimize.engine.serve", *shown]
        # As the command `vllm serve` does: where composing a configuration has touched CUDA, a fork could not use it.
        return ColdTree(command, {_START_METHOD: "spawn", **env, **hidden}, log_path, self.stop_grace_s)

    def _environment(
        self, api_key: str, cgroups: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        own = {
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_ENGINE_READY_TIMEOUT_S": str(_NO_LIMIT_S),
            "PYTHONPATH": path_to_this_package(self.python),
            **_WITHOUT_THREADS,
            **visibility(),
            **self._compilers(inherited),
        }
        if cgroups:
            own[_CGROUPS] = os.pathsep.join(cgroups)
        if self.compile_cache is not None:
            own |= _compiled_in(Path(self.compile_cache), *self._distribution())
        variables = {k: str(v) for k, v in (self.env if env is None else env).items()}
        whole = with_direct_loopback({**inherited, **own, **variables, KEY: api_key})
        for name in _GATED:
            whole.pop(name, None)
        # /collective_rpc and /reset_prefix_cache: see `optimize.engine.gate` for who may use them.
        return {**whole, _DEVELOPMENT: "1"} if self._development else whole

    def _compilers(self, inherited: Mapping[str, str]) -> dict[str, str]:
        other = self._other
        return compilers(inherited) if other is None else compilers(inherited, other.root.parent, other.python)


def _compiled_in(cache: Path, name: str, version: str) -> dict[str, str]:
    """Variables that have every engine of this release keep what it compiles in one entry of the cache, and find it.

    vLLM puts graphs into its own folder, and its compilers' folders into that one. Its CPU build saves whole models
    that it then cannot load ("'function' object has no attribute 'finalize_loading'", 0.32), so that it compiles at
    every start; without them, torch's own cache, which goes by content, serves.
    """
    entry = str(claim(cache.resolve() / f"{name}-{version}"))
    folders = {"VLLM_CACHE_ROOT": entry, "TORCHINDUCTOR_CACHE_DIR": entry, "TRITON_CACHE_DIR": f"{entry}/triton"}
    return {**folders, "VLLM_USE_AOT_COMPILE": "0"} if name == CPU_BUILD else folders


def _unless_overridden(env: Mapping[str, str], flags: Mapping[str, Any]) -> dict[str, str]:
    """The environment without the variable for the KV cache's size where the flag is set: vLLM prefers the variable."""
    return {k: v for k, v in env.items() if k != _KV_SPACE or flags.get("kv_cache_memory_bytes") is None}
