"""The part of the schema about what comes after a study: hardware with its price, the row to deploy, alerts."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from optimize.config.bounds import bounded, not_negative, positive


@dataclass
class Hardware:
    """The machine the engines run on, and what an hour of it costs.

    A price is an input, not a measurement: it has a source and a date, and is shown apart from figures.

    Attributes:
        name: For people, and to tell what a study was measured on.
        env: Environment variables that fit engines to the machine.
        machine_class: Says that all machines of the study are alike, by a name of yours; None has their processors,
            cores, memory and GPUs compared.
        provider: Who rents it out.
        instance: The provider's name for it.
        accelerators: How many of them it has; 0 for none.
        accelerator: What they are.
        memory_gb_per_s: Memory bandwidth of one accelerator, of its data sheet; None where unknown.
        hourly_usd: Price of the whole instance; None where there is none.
        region: Where that price holds.
        price_source: Where it was read.
        price_date: When that source was written, or read.
        price_note: What to know before relying on it.
    """

    name: str = MISSING
    env: dict[str, str] = field(default_factory=dict)
    machine_class: str | None = None
    provider: str = ""
    instance: str = ""
    accelerators: int = not_negative(0)
    accelerator: str = ""
    memory_gb_per_s: float | None = positive(None)
    hourly_usd: float | None = positive(
        None,
        reason="choose hardware that has a price, e.g. hardware=aws_g5_xlarge, or give yours, hardware.hourly_usd=1.5",
    )
    region: str = ""
    price_source: str = ""
    price_date: str = ""
    price_note: str = ""


@dataclass
class Levels:
    """Two thresholds of one quantity.

    Attributes:
        warn: Beyond this somebody should look.
        critical: Beyond this somebody must act.
        warn_for_s: How long it must last.
        critical_for_s: The same of the critical one.
    """

    warn: float = positive(MISSING)
    critical: float = positive(MISSING)
    warn_for_s: float = not_negative(0.0)
    critical_for_s: float = not_negative(0.0)


@dataclass
class Alerts:
    """When monitoring calls; written into the bundle's `alerts.yml`.

    Attributes:
        queue_s: P95 of the seconds that requests wait for a place in the batch or for KV blocks.
        decode_s: Mean seconds per token.
        cpu: Share of the machine's processors that is busy.
        from_knee: Take `warn` of the queue from the knee of the row's load curve, where its certificate has one, and
            `critical` in the same proportion as written here; never laxer than written here.
        load_curve: A certificate (`certify.json`); None for the row's latest.
        quantile: Of the waiting times.
        window_s: Over which rates and quantiles are taken.
        cpu_window_s: The same of the processors.
        scrape_s: Seconds between two readings.
        down_for_s: How long an engine may not answer.
        node_exporter: Where the processors' readings come from.
    """

    queue_s: Levels = field(default_factory=lambda: Levels(0.5, 1.0, 10.0, 10.0))
    decode_s: Levels = field(default_factory=lambda: Levels(0.2, 0.5, 10.0, 10.0))
    cpu: Levels = field(default_factory=lambda: Levels(0.95, 0.98, 10.0, 5.0))
    from_knee: bool = True
    load_curve: str | None = None
    quantile: float = bounded(0.95, above=0, below=1)
    window_s: float = positive(30.0)
    cpu_window_s: float = positive(5.0)
    scrape_s: float = positive(1.0)
    down_for_s: float = not_negative(10.0)
    node_exporter: str = "127.0.0.1:9100"


@dataclass
class Deploy:
    """What `python -m optimize.deploy` writes.

    Attributes:
        folder: Of the bundle; None for `bundle` in the study's folder.
        port: That the server listens on.
        headroom: Memory beyond what was measured, as a share of it.
        replicas: Of the Kubernetes Deployment.
        image: Container image; None for vLLM's own of the release that was measured.
        verify: Start the bundle's command once, ask it something, and take the memory it needs from there.
        start_timeout_s: How long that start may take, and how long probes wait.
    """

    folder: str | None = None
    port: int = bounded(8000, least=1, most=65535)
    headroom: float = not_negative(0.2, reason="it is a share, e.g. 0.2")
    replicas: int = bounded(1, least=1)
    image: str | None = None
    verify: bool = True
    start_timeout_s: float = positive(600.0)


@dataclass
class Price:
    """What `python -m optimize.price` assumes.

    Attributes:
        factors: Hardware name -> its throughput as a multiple of the measured machine's, where you know it.
    """

    factors: dict[str, float] = positive({})
