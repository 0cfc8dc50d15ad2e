"""The runs of a certification."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from optimize.certify.faults import FAULTS
from optimize.config.certify import SCENARIOS, Certify

STRESS = "stress"


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
