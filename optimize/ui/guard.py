"""The guard in front of an application: what `access` refuses is answered 403 and never reaches the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from optimize.ui.access import Access, Address

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

ALWAYS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "SAMEORIGIN"}
"""Headers of every answer that does not set them itself: no guessing of types, no frame on a foreign page."""


class GuardedWsgi:
    """A WSGI application behind the guard.

    Args:
        application: The application.
        access: Whom it lets in.
        sandboxed: Start of the paths of files that others wrote: a script in one runs without the server's origin.
    """

    def __init__(self, application: WSGIApplication, access: Access, sandboxed: str = "") -> None:
        self._application, self._access, self._sandboxed = application, access, sandboxed

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reason = self._access.refusal(environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN"), _ends_of(environ))
        if reason:
            start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8"), *ALWAYS.items()])
            return [f"{reason}\n".encode()]
        more = dict(ALWAYS)
        if self._sandboxed and environ["PATH_INFO"].startswith(self._sandboxed):
            more["Content-Security-Policy"] = "sandbox allow-scripts"

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            names = {name.lower() for name, _ in headers}
            return start_response(
                status, [*headers, *((n, v) for n, v in more.items() if n.lower() not in names)], *error
            )

        return self._application(environ, start)


def _ends_of(environ: WSGIEnvironment) -> tuple[Address, Address] | None:
    """The connection's ends, from the variables that `optimize.ui.server` sets."""
    return environ.get("optimize.ends")


class GuardedAsgi:
    """An ASGI application behind the guard.

    It gets no Origin header: one that passes the guard says no more than that the page is the application's own.

    Args:
        application: The application.
        access: Whom it lets in.
    """

    def __init__(self, application: AsgiApplication, access: Access) -> None:
        self._application, self._access = application, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._application(scope, receive, send)
        headers = scope["headers"]
        origin = _values(headers, b"origin")
        ends = (tuple(scope["client"][:2]), tuple(scope["server"][:2])) if scope.get("client") else None
        if reason := self._access.refusal(_values(headers, b"host") or "", origin, ends):
            return await _refuse(scope["type"], reason, send)
        others = [(name, value) for name, value in headers if name != b"origin"]
        return await self._application({**scope, "headers": others}, receive, send)


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Value of a header, several joined by commas; None if there is none."""
    values = [value.decode("latin-1") for key, value in headers if key == name]
    return ",".join(values) if values else None


async def _refuse(kind: str, reason: str, send: Send) -> None:
    if kind == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": f"{reason}\n".encode()})
