"""Schema of `python -m optimize.certify`."""

from __future__ import annotations

from dataclasses import dataclass

from optimize.config.bounds import bounded, not_negative, positive

SCENARIOS = ("stress", "kill", "oom", "paging", "beams", "freeze", "hang", "disconnect", "checkpoint", "slow_disk")
"""Ramps of load, and faults; `optimize.certify.faults` says what each does."""


@dataclass
class Certify:
    """The runs of `python -m optimize.certify`; `repeats` sets their repetitions.

    Attributes:
        scenarios: Which of them to run; empty for all.
        mitigations: Measure each fault with its mitigation too.
        rate_per_s: Arrivals during faults; null for `rate_share` of the capacity, which is measured first.
        rate_share: See `rate_per_s`.
        capacity_s: Length of the measurement of the capacity.
        normal_s: Length of the undisturbed load before each fault, which defines the normal P99.
        calm_s: Time of normal P99 after which it counts as recovered.
        window_s: Length of the windows in which P99 is taken after a fault.
        tolerance: Largest normal P99, as a multiple of the P99 before the fault.
        recovery_max_s: Time after which a run counts as not recovered.
        request_timeout_s: Time after which a request counts as lost.
        stress_per_s: Target rate of the stress ramp; null for the lower end of the row's measured `capacity_per_s`, on
            which `optimize.deploy` counts, and 1000 where it was not measured.
        stress_ramp_s: Length of the ramp.
        stress_hold_s: Length of the target rate.
        stress_requests_max: Most requests of a ramp; one that would need more holds shorter or ends below its target.
        stress_steps: Rates of the curve as shares of the capacity.
        stress_step_s: Length of each step.
        freeze_s: Length of the API server's stop.
        missing_s: Time for which the checkpoint is missing.
        disk_mib_per_s: Speed of the slow disk.
        headroom: Memory beyond the engine's maximum in the mitigated out-of-memory run, as a share of it.
        beams: Beams of the requests that flood the engine; null for as many as it accepts.
        shrunk_blocks: Blocks of the KV cache in the paging test; null for the fewest that the engine starts with.
    """

    scenarios: list[str] = bounded([], choices=SCENARIOS)
    mitigations: bool = True
    rate_per_s: float | None = positive(None)
    rate_share: float = positive(0.4)
    capacity_s: float = positive(5.0)
    normal_s: float = positive(5.0)
    calm_s: float = positive(2.0)
    window_s: float = positive(1.0)
    tolerance: float = bounded(2.0, least=1)
    recovery_max_s: float = positive(90.0)
    request_timeout_s: float = positive(15.0)
    stress_per_s: float | None = positive(None)
    stress_ramp_s: float = positive(10.0)
    stress_hold_s: float = not_negative(2.0)
    stress_requests_max: int = positive(8000)
    stress_steps: list[float] = positive([0.25, 0.5, 0.75, 1.0, 1.25])
    stress_step_s: float = positive(4.0)
    freeze_s: float = positive(3.0)
    missing_s: float = positive(5.0)
    disk_mib_per_s: float = positive(1.0)
    headroom: float = not_negative(0.2)
    beams: int | None = bounded(None, least=1)
    shrunk_blocks: int | None = bounded(None, least=1)

    @property
    def stress_target_per_s(self) -> float:
        """Target rate of the stress ramp: beyond what an engine of unknown capacity carries, unless one is set."""
        return self.stress_per_s or 1000.0
