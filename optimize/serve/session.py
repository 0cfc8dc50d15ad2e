"""One run of `optimize.serve`, from its configuration to SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from optimize.config.instantiate import build
from optimize.config.schema import StudyConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import ConfigError
from optimize.plan import Plan
from optimize.serve.authentication import api_key
from optimize.serve.candidate import Candidate, check_room, choose_candidate
from optimize.serve.front import Front, bind
from optimize.serve.launchers import LauncherPool, SupervisedLauncher
from optimize.serve.reporter import say
from optimize.serve.rollout import Rollout
from optimize.serve.supervisor import Supervisor
from optimize.study.target import Target, choose

_CHECK_S = 1.0


def run_server(config: StudyConfig) -> int:
    """Serve until SIGTERM or Ctrl-C, then wait for the requests in flight.

    Returns:
        0.

    Raises:
        ConfigError: bad input, including a port that is in use.
        EngineFailure: the configuration does not start.
    """
    settings = config.serve
    key, name = api_key(settings), f"serve-{config.study.name}"
    with ExitStack() as stack:
        sock = bind(settings.host, settings.port)
        stack.callback(sock.close)
        make_launcher(config)  # refuses what cannot be supervised
        plan, target = choose(config, name, say)
        candidate = _candidate(config, plan, target) if settings.canary.enabled else None
        terminated = stack.enter_context(_terminated())
        say(f"serving the {target.title}: {target.in_words()}")
        count = 1 + settings.standby + (candidate is not None)
        launchers = stack.enter_context(LauncherPool(lambda: make_launcher(config, niceness=0), count))
        supervisor = Supervisor(target.config.engine, launchers, settings, plan.folder, say)
        front = stack.enter_context(Front(supervisor, settings, dict(target.config.engine.flags), key, sock))
        stack.enter_context(supervisor)
        say(f"serving at {front.endpoint.base_url}/v1, {_key_in_words(settings.api_key_env, key)}")
        say(f"restarts and engine logs: {plan.folder}")
        if candidate is not None:
            stack.enter_context(Rollout(candidate, supervisor, front, settings, say))
        while not terminated.wait(_CHECK_S):
            front.check()
        say("draining: new requests are refused")
        unfinished = front.drain(settings.drain_s)
        say(f"stopping, with {unfinished} requests still in flight" if unfinished else "stopping")
    return 0


def _candidate(config: StudyConfig, plan: Plan, served: Target) -> Candidate:
    """The canary's candidate, for which this machine has room beside what serves."""
    others = 1 + config.serve.standby
    target, words = choose_candidate(config, plan.config.study.name, served, say)
    check_room(plan, [*[served] * others, target])
    return Candidate(target, words, others, plan.folder / "canary.json")


def make_launcher(config: StudyConfig, niceness: int | None = None) -> SupervisedLauncher:
    """A launcher whose engines can be supervised.

    Args:
        config: Configuration that names the launcher.
        niceness: Replaces the configured niceness of its engines; None keeps it.

    Raises:
        ConfigError: the engine is run by somebody else.
    """
    launcher: object = build(config.engine, "engine")
    if not isinstance(launcher, SupervisedLauncher):
        raise ConfigError("engine=remote cannot be restarted from here: choose engine=vllm")
    if isinstance(launcher, VllmLauncher):
        return launcher.for_clients(launcher.niceness if niceness is None else niceness)
    return launcher


def _key_in_words(variable: str, key: str | None) -> str:
    return f"requires the key in ${variable}" if key else f"on loopback without a key (${variable} is not set)"


@contextmanager
def _terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second signal ends the process as usual."""
    terminated = threading.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        terminated.set()
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, handle)
    try:
        yield terminated
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
