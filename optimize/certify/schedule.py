"""The runs of a certification, and the validation of its settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from optimize.certify.faults import FAULTS
from optimize.config.certify import Certify
from optimize.errors import ConfigError, closest

STRESS = "stress"
SCENARIOS = (STRESS, *FAULTS)
_POSITIVE = (
    "rate_share", "capacity_s", "normal_s", "calm_s", "window_s", "recovery_max_s", "request_timeout_s",
    "stress_per_s", "stress_ramp_s", "stress_requests_max", "stress_step_s", "freeze_s", "missing_s", "disk_mib_per_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """The nth repetition of a scenario, with or without its mitigation."""

    scenario: str
    mitigated: bool
    repeat: int

    @property
    def key(self) -> tuple[str, bool, int]:
        return self.scenario, self.mitigated, self.repeat

    def in_words(self) -> str:
        mitigation = FAULTS[self.scenario].mitigation if self.mitigated else None
        return f"{self.scenario}{f' with {mitigation}' if mitigation else ''}, repeat {self.repeat + 1}"


def runs(settings: Certify, repeats: int, done: Collection[tuple[str, bool, int]]) -> Iterator[Run]:
    """All runs that remain, repetition by repetition, so that drift over time affects all scenarios alike."""
    names = settings.scenarios or list(SCENARIOS)
    for repeat in range(repeats):
        for name in names:
            mitigable = name in FAULTS and FAULTS[name].mitigation is not None and settings.mitigations
            for mitigated in (False, True) if mitigable else (False,):
                run = Run(name, mitigated, repeat)
                if run.key not in done:
                    yield run


def check(settings: Certify, repeats: int) -> None:
    """Raise ConfigError for the first setting that cannot be."""
    for name in settings.scenarios:
        if name not in SCENARIOS:
            raise ConfigError(f"certify.scenarios: unknown scenario {name!r}; {closest(name, SCENARIOS)}")
    if repeats < 1:
        raise ConfigError(f"repeats must be at least 1, got {repeats}")
    for name in _POSITIVE:
        if not getattr(settings, name) > 0:
            raise ConfigError(f"certify.{name} must be positive, got {getattr(settings, name):g}")
    for name, least in (("tolerance", 1.0), ("headroom", 0.0), ("stress_hold_s", 0.0)):
        if getattr(settings, name) < least:
            raise ConfigError(f"certify.{name} must be at least {least:g}, got {getattr(settings, name):g}")
    if settings.rate_per_s is not None and settings.rate_per_s <= 0:
        raise ConfigError(f"certify.rate_per_s must be positive or null, got {settings.rate_per_s:g}")
    if not settings.stress_steps or min(settings.stress_steps) <= 0:
        raise ConfigError(f"certify.stress_steps must be positive shares of the capacity, got {settings.stress_steps}")
