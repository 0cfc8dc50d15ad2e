"""Schema of where trials run."""

from __future__ import annotations

from dataclasses import dataclass, field

from optimize.config.bounds import bounded, not_negative, positive


@dataclass
class Executor:
    """The machines and devices that trials run on; see `optimize.executor`.

    Attributes:
        kind: "local" (this machine) or "ray" (a Ray cluster).
        retries: Number of retries of a trial that failed for a transient reason, such as a disturbed machine.
        losses: Number of times that a trial may lose its worker (a process, a node) before it counts as failed.
        engines: Most engines at a time; null for as many as there are places or room for.
        cpu_sets: Sets of processors ("0-3,8"), one engine each; none leaves processors to the system.
        gpus_per_engine: GPUs of each engine; null for one, or for all of a machine's where a flag or knob spreads an
            engine over GPUs. On Ray null asks for one with vLLM's CUDA build, or for as many as flags and knobs name.
        address: Address of the Ray cluster: auto, host:port, ray://host:port.
        cpus_per_engine: Processors that each worker asks of Ray.
        resources: Further resources that each worker asks of Ray.
        start_timeout_s: Longest wait for all workers; the study then goes on with those that are ready.
    """

    kind: str = bounded("local", choices=("local", "ray"))
    retries: int = not_negative(1)
    losses: int = not_negative(3)
    engines: int | None = bounded(None, least=1)
    cpu_sets: list[str] = field(default_factory=list)
    gpus_per_engine: int | None = bounded(None, least=1)
    address: str = "auto"
    cpus_per_engine: float = positive(1.0)
    resources: dict[str, float] = field(default_factory=dict)
    start_timeout_s: float = positive(120.0)
