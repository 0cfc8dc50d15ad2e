"""Messages between this process and its client processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from objectives import RequestRecord
from optimize.engine.base import Endpoint, RequestConfig
from optimize.load.arrivals import Arrivals
from optimize.workload.conversation import Conversations

if TYPE_CHECKING:  # a client process needs none of what a workload is loaded with
    from optimize.workload.workload import Prompt


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of the following loads, kept until the next message of this kind."""

    prompts: Sequence[Prompt]
    output_tokens: Sequence[int] | None
    limits: Sequence[int] | None = None
    fields: Sequence[Mapping[str, Any]] | None = None
    conversations: Conversations | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds every request.

    Attributes:
        max_tokens: Most tokens of an answer.
        timeout_s: Seconds after which a request counts as failed.
        honours_retry_after: Whether a throttled request is sent again once the server wants it to be; its latency then
            includes the wait.
    """

    max_tokens: int
    timeout_s: float
    honours_retry_after: bool = False


@dataclass(frozen=True, slots=True)
class ClientShare:
    """One process's part of a load.

    Attributes:
        endpoint: The engine.
        request: Decoding settings of every request.
        bounds: What bounds every request.
        rows: Order in which the load sends its prompts, over and over; numbers of conversations where there are any.
        index: Number of this process, from 0.
        processes: Number n of processes that share the load; each takes every nth arrival or user.
        began: `time.monotonic()` at second 0 of the load; all processes share this clock.
    """

    endpoint: Endpoint
    request: RequestConfig
    bounds: Bounds
    rows: Sequence[int]
    index: int
    processes: int
    began: float


@dataclass(frozen=True, slots=True)
class Follow:
    """Send by these arrivals from now on, in place of others; requests already sent go on.

    Attributes:
        arrivals: When requests are due.
        seed: Seed of random arrivals.
        start_s: Second of the load at which the arrivals' own clock stands at 0.
    """

    arrivals: Arrivals
    seed: int
    start_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End the load; a last report lists the requests without an answer."""


@dataclass(slots=True)
class Report:
    """Events since the last report.

    Attributes:
        records: Requests that ended.
        oldest_due_s: Due time of the oldest request that is due and unanswered, sent or not; None if there is none.
        at_s: Second of the load.
        cpu_s: Processor seconds of the process so far.
        unanswered: In the last report of a load: the requests given up, with their wait so far as latency.
    """

    records: list[RequestRecord]
    oldest_due_s: float | None
    at_s: float
    cpu_s: float
    unanswered: list[RequestRecord] | None = None
