"""Schema of what follows a study: hardware with its price, the deployment bundle, alerts."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from optimize.config.bounds import bounded, not_negative, positive


@dataclass
class Hardware:
    """The machine the engines run on, and what an hour of it costs.

    A price is an input, not a measurement: it has a source and a date, and is shown apart from figures.

    Attributes:
        name: Name in reports and in the studies measured on it.
        env: Environment variables that fit engines to the machine.
        machine_class: A name of yours that declares all machines of the study alike; null compares their processors,
            cores, memory and GPUs.
        provider: The cloud provider.
        instance: The provider's name for it.
        accelerators: Number of accelerators; 0 for none.
        accelerator: Their model.
        memory_gb_per_s: Memory bandwidth of one accelerator, from its data sheet; null where unknown.
        hourly_usd: Price of the whole instance; null where there is none.
        region: Region in which the price holds.
        price_source: Source of the price.
        price_date: Date of the source.
        price_note: Caveats of the price.
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
        warn: Threshold beyond which somebody should look.
        critical: Threshold beyond which somebody must act.
        warn_for_s: Time beyond `warn` before it fires.
        critical_for_s: Time beyond `critical` before it fires.
    """

    warn: float = positive(MISSING)
    critical: float = positive(MISSING)
    warn_for_s: float = not_negative(0.0)
    critical_for_s: float = not_negative(0.0)


@dataclass
class Alerts:
    """Thresholds of the monitoring, written into the bundle's `alerts.yml`.

    Attributes:
        queue_s: P95 of the seconds that requests wait for a place in the batch or for KV blocks.
        decode_s: Mean seconds per token.
        cpu: Share of the machine's processors that is busy.
        capacity: Arrivals at one engine as a share of the lower end of its measured capacity's interval; no rule where
            the row has no `capacity_per_s`.
        from_knee: Take `warn` of the queue from the knee of the row's load curve, where its certificate has one, and
            `critical` in the same proportion as written here; never laxer than written here.
        load_curve: A certificate (`certify.json`); null for the row's latest.
        quantile: Quantile of the waiting times.
        window_s: Window of rates and quantiles.
        cpu_window_s: Window of the processors' use.
        scrape_s: Seconds between two readings.
        down_for_s: Time without an answer after which an engine counts as down.
        node_exporter: Address of the Prometheus node exporter.
    """

    queue_s: Levels = field(default_factory=lambda: Levels(0.5, 1.0, 10.0, 10.0))
    decode_s: Levels = field(default_factory=lambda: Levels(0.2, 0.5, 10.0, 10.0))
    cpu: Levels = field(default_factory=lambda: Levels(0.95, 0.98, 10.0, 5.0))
    capacity: Levels = field(default_factory=lambda: Levels(0.8, 1.0, 60.0, 60.0))
    from_knee: bool = True
    load_curve: str | None = None
    quantile: float = bounded(0.95, above=0, below=1)
    window_s: float = positive(30.0)
    cpu_window_s: float = positive(5.0)
    scrape_s: float = positive(1.0)
    down_for_s: float = not_negative(10.0)
    node_exporter: str = "127.0.0.1:9100"


@dataclass
class Autoscale:
    """How the bundle's autoscaler follows the load, where `deploy.rate_per_s` is set.

    Attributes:
        load_share: Load that each replica is meant to carry, as a share of the lower end of its measured capacity's
            interval; below `alerts.capacity.warn` by more than the autoscaler's own tolerance of a tenth.
        replicas_max: Most replicas; null for as many as `deploy.rate_per_s` needs.
        start_s: Seconds from a new replica's creation until it serves, with image and node; null for the start that
            `deploy.verify` measures, which has neither.
        window_s: Window of the rates; at least four of the cluster's scrape intervals.
        prometheus_url: Address of the cluster's Prometheus.
    """

    load_share: float = bounded(0.7, above=0, below=1)
    replicas_max: int | None = bounded(None, least=1)
    start_s: float | None = positive(None)
    window_s: float = bounded(60.0, least=15)
    prometheus_url: str = "http://prometheus-server.monitoring.svc:80"


@dataclass
class Deploy:
    """The bundle that `python -m optimize.deploy` writes.

    Attributes:
        folder: Folder of the bundle; null for `bundle` in the study's folder.
        port: Port that the server listens on.
        headroom: Memory beyond the measured peak, as a share of it.
        rate_per_s: Requests per second at the peak, which sets the number of replicas and the autoscaler's upper end;
            needs a row with a measured `capacity_per_s`.
        replicas: Replicas of the Kubernetes Deployment, of which an autoscaler leaves at least these.
        autoscale: Its autoscaler.
        image: Container image; null for vLLM's own image of the measured release.
        verify: Start the bundle's command once, ask it something, and take the memory it needs from there.
        start_timeout_s: Time limit of that start and of the start-up probes.
    """

    folder: str | None = None
    port: int = bounded(8000, least=1, most=65535)
    headroom: float = not_negative(0.2, reason="it is a share, e.g. 0.2")
    rate_per_s: float | None = positive(None)
    replicas: int = bounded(1, least=1)
    autoscale: Autoscale = field(default_factory=Autoscale)
    image: str | None = None
    verify: bool = True
    start_timeout_s: float = positive(600.0)


@dataclass
class Price:
    """Assumptions of `python -m optimize.price`.

    Attributes:
        factors: Hardware name -> its throughput as a multiple of the measured machine's, where it is known.
        rate_per_s: Requests per second for which to find the cheapest fleet; null for `deploy.rate_per_s`. Needs a row
            with a measured `capacity_per_s`.
    """

    rate_per_s: float | None = positive(None)
    factors: dict[str, float] = positive({})
