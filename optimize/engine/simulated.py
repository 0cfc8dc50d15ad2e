"""A simulated engine that speaks vLLM's protocol with artificial timings, in a process tree of its own.

It tests search, tracking and supervision without a model. No figure from it is a measurement, as its version says,
which is part of every signature.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimize.engine.adapters import asked_names
from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.flags import check_flags
from optimize.engine.gate import KEY
from optimize.engine.process import ColdTree, free_port
from optimize.engine.proxies import with_direct_loopback
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import EngineFailure, FailureKind
from optimize.files import python_path
from optimize.redaction import hidden_flags

VERSION = "simulated (no measurement)"
_DEFAULTS = {"max_num_seqs": 128, "max_num_batched_tokens": 2048}


@dataclass
class SimulatedLauncher:
    """Starts simulated engines; its fields are the keys of `conf/engine/simulated.yaml`.

    Attributes:
        flags: vLLM flags held fixed in all trials.
        env: Environment variables of every engine.
        token_s: Seconds per output token of a single request.
        oom_above_seqs: More sequences than this fail at the start, as if out of device memory.
        die_after_requests: Number of requests after which it crashes.
        refuses: Quantizations that it refuses to serve.
        model: As that of `optimize.engine.vllm.VllmLauncher`.
    """

    flags: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    token_s: float = 0.001
    oom_above_seqs: int | None = None
    die_after_requests: int | None = None
    refuses: list[str] = field(default_factory=list)
    model: str | list[str] | None = None
    request_knobs_only: bool = field(default=False, init=False)

    def preflight(self, flag_names: Sequence[str]) -> None:
        check_flags([*self.flags, *flag_names])

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        failure = EngineFailure(FailureKind.REFUSED, "no such kernel")
        return {name: failure for name, config in engines.items() if config.quantization in self.refuses}

    def report_cached_tokens(self) -> None:
        """Nothing: it has no cache."""

    def prepare(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to close."""

    def version(self) -> str:
        return VERSION

    def deploy_command(self, config: EngineConfig) -> str:
        return ""

    def command(self, port: int, settings: Mapping[str, Any]) -> list[str]:
        """The program that is started as an engine, and its arguments."""
        return [sys.executable, "-m", "optimize.engine.simulated_server", str(port), json.dumps(settings)]

    def launch(self, config: EngineConfig, log_path: Path, cgroups: Sequence[str] = ()) -> VllmEngine:
        """Start one, as `Launcher.launch`; it joins no control groups."""
        port, key = free_port(), secrets.token_urlsafe(24)
        settings = {
            **_DEFAULTS, **dict(hidden_flags({**self.flags, **dict(config.flags)}.items())),
            "token_s": self.token_s, "quantization": config.quantization,
            "oom_above_seqs": self.oom_above_seqs, "die_after_requests": self.die_after_requests,
        }  # fmt: skip
        variables = {name: str(value) for name, value in {**self.env, **dict(config.env)}.items()}
        env = with_direct_loopback({**os.environ, **variables, "PYTHONPATH": python_path(), KEY: key})
        tree = ColdTree(self.command(port, settings), env, log_path, grace_s=0.5)
        first, *others = asked_names({**self.flags, **dict(config.flags)}, self.model)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", key, first, others=tuple(others))
        engine = VllmEngine(config, tree, endpoint, log_path)
        try:
            engine.wait_ready(stall_s=30.0)
        except BaseException:
            engine.stop()
            raise
        return engine
