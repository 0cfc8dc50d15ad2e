"""What this process and its client processes tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objectives import RequestRecord
from optimize.engine.base import Endpoint, RequestConfig
from optimize.load.arrivals import Arrivals

if TYPE_CHECKING:  # a client process needs none of what a workload is loaded with
    from optimize.load.workload import Prompt


@dataclass(frozen=True, slots=True)
class Prompts:
    """What the following loads ask, kept until the next message of this kind."""

    prompts: Sequence[Prompt]
    output_tokens: Sequence[int] | None


@dataclass(frozen=True, slots=True)
class ClientShare:
    """One process's part of a load.

    Attributes:
        endpoint: The engine.
        request: Decoding settings of every request.
        max_tokens: Bound on every answer.
        timeout_s: After which a request counts as failed.
        rows: The order in which the load asks its prompts, over and over.
        index: Which of the processes this is.
        processes: How many share the load; each takes every so-manieth request or user.
        began: `time.monotonic()` at second 0 of the load; the clock is one for all processes.
    """

    endpoint: Endpoint
    request: RequestConfig
    max_tokens: int
    timeout_s: float
    rows: Sequence[int]
    index: int
    processes: int
    began: float


@dataclass(frozen=True, slots=True)
class Follow:
    """Send by these arrivals from now on, in place of others; what was sent before goes on.

    Attributes:
        arrivals: When requests are due.
        seed: Of random arrivals.
        start_s: Second of the load at which the arrivals' own clock stands at 0.
    """

    arrivals: Arrivals
    seed: int
    start_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End the load; a report says what was still unanswered."""


@dataclass(slots=True)
class Report:
    """What happened since the last report.

    Attributes:
        records: Requests that ended.
        oldest_due_s: When the oldest request that is due and unanswered, sent or not, was due; None if there is none.
        at_s: Second of the load.
        cpu_s: Processor time of the process so far.
        unanswered: In the last report of a load: what it gave up, with the wait so far as latency.
    """

    records: list[RequestRecord]
    oldest_due_s: float | None
    at_s: float
    cpu_s: float
    unanswered: list[RequestRecord] | None = None
