"""The front of a supervised engine: its HTTP application on an address, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Mapping
from typing import Any

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from optimize.config.serve import Serve
from optimize.engine.base import Endpoint
from optimize.errors import ConfigError, OptimizeError
from optimize.serve.beam_limit import BeamLimit, accepted_beams
from optimize.serve.exchange import Counts
from optimize.serve.intake import HEADS
from optimize.serve.mirror import Mirror
from optimize.serve.proxy import Proxy
from optimize.serve.supervisor import Supervisor

_MODEL_NAME = "model"
_BACKLOG = 4096
_UNLIMITED = 1 << 30
_POLL_S = 0.05
_CLIENTS_FAULTS = (HttpProcessingError, web.RequestPayloadError, ConnectionResetError)
_log = logging.getLogger(__name__)
# Bytes that are no HTTP, and connections that end early, are a client's doing: no traceback is shown for them.
_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], _CLIENTS_FAULTS)))
_LINGER_S = 2.0  # for a client to read why the rest of its body is not wanted


class Front:
    """A context manager that listens from before the first engine is up; /health answers 503 until then.

    Args:
        supervisor: Keeps the engine up.
        settings: Limits and timeouts.
        flags: vLLM flags of the engine, which determine how many beams it accepts.
        api_key: Key that clients must send; None where none is required.
        sock: Socket from `bind`; closed at the end.

    Attributes:
        mirror: Sends copies of requests to a candidate, once there is one.
    """

    def __init__(
        self, supervisor: Supervisor, settings: Serve, flags: Mapping[str, Any], api_key: str | None,
        sock: socket.socket,
    ) -> None:  # fmt: skip
        self._supervisor, self._settings, self._api_key, self._socket = supervisor, settings, api_key, sock
        self._limit, self.mirror = beam_limit(settings, flags), Mirror(settings)
        self._stop, self._listening = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, name="front", daemon=True)
        self._error: BaseException | None = None
        self._proxy: Proxy | None = None

    def __enter__(self) -> Front:
        self._thread.start()
        self._listening.wait()
        self.check()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise OptimizeError if its thread has ended, and with it every connection."""
        if self._error is not None:
            raise OptimizeError(f"the front ended: {type(self._error).__name__}: {self._error}") from self._error

    @property
    def endpoint(self) -> Endpoint:
        host, port = self._socket.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        return Endpoint(f"http://{name}:{port}", self._api_key, _MODEL_NAME)

    @property
    def proxy(self) -> Proxy:
        assert self._proxy is not None
        return self._proxy

    @property
    def counts(self) -> Counts:
        return self.proxy.counts

    def in_flight_on(self, generation: int) -> int:
        """Requests that the engine of this number is answering."""
        return self.proxy.forwarder.in_flight[generation]

    def follow(self, flags: Mapping[str, Any]) -> None:
        """Take the limit of beams from the flags of another engine, which serves from now on."""
        self.proxy.limit = beam_limit(self._settings, flags)

    def drain(self, timeout_s: float) -> int:
        """Refuse new requests and wait for those in flight; returns the number that did not end in time."""
        self.proxy.draining = True
        done = threading.Event()
        waited = 0.0
        while self.proxy.in_flight and waited < timeout_s:
            done.wait(_POLL_S)
            waited += _POLL_S
        return self.proxy.in_flight

    def _serve(self) -> None:
        try:
            uvloop.run(self._run())
        except BaseException as error:  # raised by `check` in the thread that waits for the end
            self._error = error
        finally:
            self._listening.set()

    async def _run(self) -> None:
        self._proxy = Proxy(self._supervisor, self._settings, self._limit, self._api_key, self.mirror)
        runner = web.AppRunner(
            self._proxy.app(), access_log=None, shutdown_timeout=0.5,
            handler_cancellation=True,  # a client that disconnects cancels its request, and the engine's work on it
            lingering_time=min(_LINGER_S, self._settings.client_timeout_s), logger=_log, **HEADS,
        )  # fmt: skip
        await runner.setup()
        assert runner.server is not None
        accept = self._proxy.connections.accepting(runner.server)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: _log.info("%s: %r", context["message"], context.get("exception")))
        listener = await loop.create_server(accept, sock=self._socket, backlog=_BACKLOG)
        self._listening.set()
        while not self._stop.is_set():
            self._proxy.connections.sweep()
            await asyncio.sleep(_POLL_S)
        listener.close()
        await runner.cleanup()


def beam_limit(settings: Serve, flags: Mapping[str, Any]) -> BeamLimit:
    """The limit that the settings ask for, within what an engine with these flags accepts."""
    accepted = accepted_beams(flags)
    ceiling = accepted if settings.beams_max is None else min(accepted, settings.beams_max)
    total = settings.beams_together or flags.get("max_num_seqs") or _UNLIMITED
    clamp = settings.beams_over == "clamp"
    return BeamLimit(
        ceiling, int(total), clamp, settings.beams_dynamic, settings.kv_high, settings.kv_low
    )  # fmt: skip


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, bound before any engine starts; port 0 takes a free port.

    Raises:
        ConfigError: the address is in use, or is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise ConfigError(
            f"serve.port={port}: cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}): "
            "choose another serve.port, or stop what listens there"
        ) from error
    return sock
