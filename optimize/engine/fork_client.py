"""Client of the fork server: starts it, and has it fork engines, one at a time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from optimize.engine.leftovers import end_left, end_leftovers
from optimize.engine.log_filter import FilteredLog
from optimize.engine.process import ProcessTree, event_of, new_scratch, scratch_env
from optimize.engine.reaper import MARK

_IMPORT_TIMEOUT_S = 180.0
_CHECK_TIMEOUT_S = 90.0


class ForkedTree(ProcessTree):
    """An engine forked by the fork server, which is its reaper."""

    def __init__(self, client: ForkClient, scratch: str, grace_s: float, log: FilteredLog) -> None:
        super().__init__(client.pid, log, scratch)
        self._client, self._grace_s = client, grace_s
        self.stopped = threading.Event()

    def _end(self) -> None:
        self._client.stop_engine(self, self._grace_s)


class ForkClient:
    """Starts a fork server at once, in the background; `close` ends it and everything under it.

    Args:
        env: Environment in which vLLM is imported; it must hold the settings that vLLM reads at import time.
        python: Interpreter of the environment that has vLLM; None for this one.
    """

    def __init__(self, env: Mapping[str, str], python: str | None = None) -> None:
        end_leftovers()
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", "optimize.engine.fork_server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**env, "TORCHINDUCTOR_COMPILE_THREADS": "1", MARK: uuid.uuid4().hex}, text=True,
            process_group=0,  # not a session of its own: see `optimize.engine.priority`
        )  # fmt: skip
        self._ready = threading.Event()
        self._unavailable = ""
        self._tree: ForkedTree | None = None
        self._answered, self._refusal = threading.Event(), cast("str | None", None)
        self._reader = threading.Thread(target=self._read_events, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the fork server."""
        return self._process.pid

    def unavailable_reason(self) -> str | None:
        """Wait until vLLM is imported; returns why engines cannot be forked here, or None if they can."""
        if not self._ready.wait(_IMPORT_TIMEOUT_S):
            return f"importing vLLM took more than {_IMPORT_TIMEOUT_S:.0f} s"
        return self._unavailable or None

    def start(self, arguments: Sequence[str], env: Mapping[str, str], log_path: Path, grace_s: float) -> ForkedTree:
        """Fork an engine.

        Args:
            arguments: As `vllm serve` takes them.
            env: The engine's complete environment.
            log_path: File to which its output is appended.
            grace_s: Seconds between SIGTERM and SIGKILL at a stop.
        """
        with new_scratch() as scratch:
            log = FilteredLog(log_path, scratch)
        self._tree = ForkedTree(self, scratch, grace_s, log)
        start = {
            "args": list(arguments), "env": {**env, **scratch_env(scratch)}, "log": str(log.target),
            "scratch": scratch,
        }  # fmt: skip
        self._send({"start": start})
        return self._tree

    def refusal(self, arguments: Sequence[str], env: Mapping[str, str]) -> str | None:
        """Why vLLM refuses an engine with these arguments, as far as that shows without starting it.

        Args:
            arguments: As `vllm serve` takes them.
            env: The engine's complete environment.

        Returns:
            None where vLLM does not refuse it, or where that stays unknown; see `optimize.engine.kernel_check`.
        """
        self._answered.clear()
        self._refusal = None
        self._send({"check": {"arguments": list(arguments), "env": dict(env)}})
        self._answered.wait(_CHECK_TIMEOUT_S)
        return self._refusal

    def stop_engine(self, tree: ForkedTree, grace_s: float) -> None:
        if tree is self._tree:
            self._send({"stop": grace_s})
            tree.stopped.wait()
            self._tree = None

    def close(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # a command that a killed server never read
                self._process.stdin.close()
        self._process.wait()
        self._reader.join()

    def _send(self, command: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._reader.join()
            self._lost()  # again: the reader may have seen the end before there was a tree

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        try:
            with self._process.stdout as events:
                for line in events:
                    self._handle(event_of(line))
        finally:
            self._lost()

    def _handle(self, event: dict[str, object]) -> None:
        tree = self._tree
        if "ready" in event or "unavailable" in event:
            self._unavailable = str(event.get("unavailable", ""))
            self._ready.set()
        elif "refusal" in event:
            self._refusal = cast("str | None", event["refusal"])
            self._answered.set()
        elif tree is not None and "exit" in event:
            tree.exit_code = int(str(event["exit"]))
            tree.ended.set()
        elif tree is not None and "stopped" in event:
            tree.stopped.set()

    def _lost(self) -> None:
        """The fork server is gone; where it was killed, what it left is ended here."""
        self._unavailable = self._unavailable or "the fork server ended"
        self._ready.set()
        self._answered.set()
        tree = self._tree
        if tree is not None:
            tree.ended.set()
            self._process.wait()
            end_left(tree.scratch)
            tree.stopped.set()
