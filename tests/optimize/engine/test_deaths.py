"""What a broken connection says of an engine: that it died, if it did, and else that it is worth another try."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.process import ColdTree, free_port
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import EngineFailure, FailureKind, TransientFault
from tests.optimize.engine.trees import wait_for

SERVER = """
import os, signal, socket, struct, time
server = socket.create_server(("127.0.0.1", {port}))
print("listening", flush=True)
connection, _ = server.accept()
connection.recv(65536)
connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
connection.close()  # resets it
time.sleep(0.3)
{then}
time.sleep(60)
"""


@contextmanager
def resetting(then: str, folder: Path) -> Iterator[VllmEngine]:
    """An engine that resets the first connection, and then does this."""
    port, log = free_port(), folder / "log"
    tree = ColdTree([sys.executable, "-S", "-c", SERVER.format(port=port, then=then)], dict(os.environ), log, grace_s=0)
    engine = VllmEngine(EngineConfig("m", "fp16"), tree, Endpoint(f"http://127.0.0.1:{port}", "key", "m"), log)
    try:
        assert wait_for(lambda: log.is_file() and "listening" in log.read_text())
        tree.watch()
        yield engine
    finally:
        engine.stop()


def test_an_engine_that_dies_as_it_is_asked_has_crashed(tmp_path: Path) -> None:
    """Its connections break before its end is seen, so that such a crash was taken for a passing fault."""
    with resetting("os.kill(os.getpid(), signal.SIGKILL)", tmp_path) as engine:
        with pytest.raises(EngineFailure) as failure:
            engine.reset()
        assert failure.value.kind is FailureKind.CRASH


def test_an_engine_that_lives_is_worth_another_try(tmp_path: Path) -> None:
    with resetting("", tmp_path) as engine, pytest.raises(TransientFault, match="did not answer /reset_prefix_cache"):
        engine.reset()
