"""Schema of `python -m optimize.serve`."""

from __future__ import annotations

from dataclasses import dataclass, field

from optimize.config.bounds import bounded, not_negative, positive
from optimize.config.canary import Canary


@dataclass
class Serve:
    """A row served under supervision (`python -m optimize.serve`), and the supervision that `optimize.certify` tests.

    Attributes:
        host: Address to listen on; one that others can reach needs an API key.
        port: Port to listen on; 0 takes a free one.
        api_key_env: Environment variable that holds the key which clients must send; without it, on loopback, no key is
            required.
        probe_s: Seconds between probes of a living engine for an answer and for the use of its KV cache.
        probe_timeout_s: Time limit of the answer to a probe.
        probe_failures: Probes without an answer, in a row, after which an engine that does not compute is restarted.
        unanswered_max_s: Time after which an engine that computes but answers no probe (overload) is restarted.
        backoff_first_s: Pause before the second restart in a row; the first comes at once.
        backoff_factor: Ratio of each pause to the one before.
        backoff_max_s: Longest pause.
        healthy_s: Life of an engine after which the next restart comes at once again.
        standby: Keep a second engine ready; it takes over at once, and costs its memory.
        wait_s: Longest wait of a request for an engine to come back before it is refused with 503.
        retries: Number of times that a request is sent again after its engine died.
        migrations: How many of these times may come after part of its answer was streamed to the client, so that
            another engine goes on with the answer; 0 for none.
        beams_max: Beams that a request may ask for; null for what the engine accepts (half of max_logprobs).
        beams_together: Beams of all requests in flight together; null for the engine's max_num_seqs.
        beams_over: Treatment of a request beyond the limit: "refuse" (400) or "clamp".
        beams_dynamic: Lower the limit while the KV cache is full or requests wait.
        kv_high: Share of the KV cache in use that halves the limit of beams.
        kv_low: Share below which it grows again.
        answers_max: Answers that a request may ask for: the number of its prompts times n.
        answers_together: Answers of all requests in flight that ask for several; beyond it they are refused with 503.
        client_timeout_s: Time limit of a client to send the head of a request, to send its body, and to take each piece
            of an answer; also how long an idle connection stays open.
        body_max_mib: Largest body of a request; a larger one is refused with 413.
        bodies_max_mib: Memory for the bodies of all requests; beyond it they are refused with 503.
        requests_max: Most requests at a time; further ones are refused with 503.
        drain_s: Time limit of the requests in flight after SIGTERM, and on an engine that a canary has replaced.
    """

    host: str = "127.0.0.1"
    port: int = bounded(8000, least=0, most=65535)
    api_key_env: str = "OPTIMIZE_API_KEY"
    probe_s: float = positive(0.5)
    probe_timeout_s: float = positive(2.0)
    probe_failures: int = positive(2)
    unanswered_max_s: float = positive(60.0)
    backoff_first_s: float = not_negative(0.5)
    backoff_factor: float = bounded(2.0, least=1)
    backoff_max_s: float = positive(30.0)
    healthy_s: float = not_negative(60.0)
    standby: bool = False
    wait_s: float = not_negative(60.0)
    retries: int = not_negative(2)
    migrations: int = not_negative(1)
    beams_max: int | None = bounded(None, least=1)
    beams_together: int | None = bounded(None, least=1)
    beams_over: str = bounded("refuse", choices=("refuse", "clamp"))
    beams_dynamic: bool = True
    kv_high: float = bounded(0.9, above=0, most=1)
    kv_low: float = bounded(0.6, above=0, most=1)
    answers_max: int = positive(256)
    answers_together: int = positive(2048)
    client_timeout_s: float = positive(60.0)
    body_max_mib: int = positive(16)
    bodies_max_mib: int = positive(256)
    requests_max: int = positive(2048)
    drain_s: float = not_negative(30.0)
    canary: Canary = field(default_factory=Canary)
