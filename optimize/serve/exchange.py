"""One request under way, and what the front counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from optimize.serve.recording import Recording
from optimize.serve.stream_request import StreamRequest
from optimize.serve.transcript import Transcript


@dataclass
class Counts:
    """Counters of the front since its start; /metrics reports them under these names."""

    requests: int = 0
    retried: int = 0
    migrated: int = 0
    """Streams that had begun and that another engine went on with."""
    lost: int = 0
    broken_off: int = 0
    refused_beams: int = 0
    clamped_beams: int = 0
    refused_answers: int = 0
    left: int = 0
    """Clients that disconnected before their answer was complete."""


@dataclass
class Exchange:
    """One request under way.

    Attributes:
        request: The client's request.
        method: The method by which the engine is asked.
        path: The path that it is asked for.
        body: The body that the engine gets; empty for none.
        headers: Headers added to the response.
        response: The response, once part of it has been passed on.
        recording: Takes the engine's answer down; None where nobody wants to know.
        stream: The request, if another engine can go on with its answer.
        transcript: What the client has got of that answer.
        migrations: Number of times that another engine was to go on.
    """

    request: web.Request
    method: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    response: web.StreamResponse | None = None
    recording: Recording | None = None
    stream: StreamRequest | None = None
    transcript: Transcript | None = None
    migrations: int = 0
