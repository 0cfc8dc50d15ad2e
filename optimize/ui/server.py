"""A WSGI server on loopback, a thread per request; the standard library alone."""

from __future__ import annotations

from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

ADDRESS = "127.0.0.1"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 60  # seconds of silence after which a connection is closed

    def get_environ(self) -> dict[str, Any]:
        ends = (self.client_address[:2], self.connection.getsockname()[:2])
        return {**super().get_environ(), "optimize.ends": ends}

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the server has one reader."""


def server(application: WSGIApplication, port: int) -> WSGIServer:
    """The server, bound to loopback; port 0 takes a free one."""
    return make_server(ADDRESS, port, application, server_class=_Server, handler_class=_Handler)
