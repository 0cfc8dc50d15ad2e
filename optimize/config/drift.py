"""Schema of `python -m optimize.drift`."""

from __future__ import annotations

from dataclasses import dataclass, field

from optimize.config.bounds import bounded, not_negative, positive


@dataclass
class Drift:
    """What a served engine sees, compared with what its study was measured under (`python -m optimize.drift`).

    The source is the record that `optimize.serve` keeps of the study, unless another one is given.

    Attributes:
        scrape: Files, each a saved answer of vLLM's /metrics; each is of the time when it was last written.
        prometheus: Address of a Prometheus that scrapes the engine, http(s)://host:port.
        match: Matchers of the engine's series there, e.g. `job="vllm",model_name="mine"`; empty takes all of vLLM's.
        days: Length of the time that Prometheus is asked for.
        alarm_days: Days of unchanged traffic in which at most one false alarm is to be expected.
        margin: Share by which odds, the rate and the cached share may exceed what the study's own requests leave open:
            how far daily cycles may go without counting as a change.
        together: Requests that may come together and be alike; the more, the later a change shows in few requests.
    """

    scrape: list[str] = field(default_factory=list)
    prometheus: str | None = None
    match: str = ""
    days: float = positive(7.0)
    alarm_days: float = positive(100.0)
    margin: float = not_negative(0.25)
    together: float = bounded(4.0, least=1)
