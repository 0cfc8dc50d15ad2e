"""A server from its configuration to its end by SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from optimize.config.instantiate import build
from optimize.config.schema import StudyConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import ConfigError
from optimize.serve.front import Front, bind
from optimize.serve.launchers import Starter, Starters
from optimize.serve.supervisor import Supervisor
from optimize.serve.validation import api_key, check
from optimize.study.target import choose


def run_server(config: StudyConfig) -> int:
    """Serve until SIGTERM or Ctrl-C, then let requests in flight end.

    Returns:
        0.

    Raises:
        ConfigError: bad input, the port being taken included.
        EngineFailure: the configuration does not start.
    """
    settings = config.serve
    check(settings)
    key, name = api_key(settings), f"serve-{config.study.name}"
    with ExitStack() as held:
        sock = bind(settings.host, settings.port)
        held.callback(sock.close)
        make_starter(config)  # refuses what cannot be supervised
        plan, chosen = choose(config, name, say)
        end = held.enter_context(_terminated())
        say(f"serving the {chosen.title}: {chosen.in_words()}")
        starters = held.enter_context(Starters(lambda: make_starter(config, niceness=0), 2 if settings.standby else 1))
        supervisor = Supervisor(chosen.config.engine, starters, settings, plan.folder, say)
        front = held.enter_context(Front(supervisor, settings, dict(chosen.config.engine.flags), key, sock))
        held.enter_context(supervisor)
        say(f"up at {front.endpoint.base_url}/v1, {_key_in_words(settings.api_key_env, key)}; {_where(plan.folder)}")
        end.wait()
        say("draining: no further requests are taken")
        left = front.drain(settings.drain_s)
        say(f"stopping, with {left} requests still in flight" if left else "stopping")
    return 0


def make_starter(config: StudyConfig, niceness: int | None = None) -> Starter:
    """A launcher that can be supervised.

    Args:
        config: What it is built from.
        niceness: How far its engines give way to other programs, where not as configured.

    Raises:
        ConfigError: the engine is somebody else's.
    """
    made: object = build(config.engine, "engine")
    if not isinstance(made, Starter):
        raise ConfigError("engine=remote is somebody else's to restart: choose engine=vllm")
    if niceness is not None and isinstance(made, VllmLauncher):
        made.niceness = niceness
    return made


def say(line: str) -> None:
    print(line, flush=True)


def _key_in_words(variable: str, key: str | None) -> str:
    return f"asking for the key in ${variable}" if key else f"on loopback without a key (${variable} is not set)"


def _where(folder: Path) -> str:
    return f"restarts and logs in {folder}"


@contextmanager
def _terminated() -> Iterator[threading.Event]:
    """Set by SIGTERM and SIGINT; a second one ends the process as usual."""
    end = threading.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        end.set()
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, note)
    try:
        yield end
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
