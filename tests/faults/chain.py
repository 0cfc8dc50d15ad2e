"""A command that is run again and again, each time into the next fault, until none is left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from tests.faults.injector import ERRORS, Fault, Injector, Site
from tests.faults.session import Session
from tests.faults.study import ALL, Study
from tests.faults.tally import LOST, RESUMED, SURVIVED, Tally, tallied

SESSIONS_MAX = 1000


def rounds(sites: Mapping[Site, None]) -> list[dict[Site, int]]:
    """The faults to inject, each round with one error of a site."""
    return [dict.fromkeys(sites, error) for error in ERRORS] if ALL else [_selection(sites)]


def _selection(sites: Mapping[Site, None]) -> dict[Site, int]:
    """One site of each kind of file, functions, operations and errors taking turns."""
    groups: dict[tuple[str, bool], list[Site]] = {}
    for site in sites:
        groups.setdefault((site.kind, site.background), []).append(site)
    sites_of_groups = (group[place % len(group)] for place, group in enumerate(groups.values()))
    return dict(zip(sites_of_groups, itertools.cycle(ERRORS), strict=False))


def sites_of(injector: Injector, study: Study, verb: str = "optimize") -> dict[Site, None]:
    """Where a command writes, in order."""
    with injector.session():
        session = study.run(verb)
    assert (session.code, session.complaint()) == (0, ""), session
    return dict(injector.sites)


class Chain:
    """Runs a command until it has met every fault.

    Args:
        injector: Strikes.
        tally: Counts.

    Attributes:
        defects: What went wrong, in words.
    """

    def __init__(self, injector: Injector, tally: Tally) -> None:
        self._injector, self._tally = injector, tally
        self.defects: list[str] = []

    def run(self, study: Study, verb: str) -> int:
        """Run a command until no fault strikes any more; returns how many struck."""
        total = 0
        for _ in range(SESSIONS_MAX):
            with self._injector.session() as faults:
                session = study.run(verb)
            self._note(study, session, faults)
            total += len(faults)
            if not faults:
                return total
        raise AssertionError(f"{verb} came to no end")

    def _note(self, study: Study, session: Session, faults: list[Fault]) -> None:
        complaints = [session.complaint(), *study.losses()]
        if session.code and not faults:
            complaints.append(f"it did not go on: {session.err}")
        complaints = [text for text in complaints if text]
        end = LOST if complaints else RESUMED if session.code else SURVIVED
        self._tally.add((fault.site.kind for fault in faults), end)
        for text in complaints:
            self.defects.append(f"{'; '.join(map(str, faults)) or 'no fault'}: {text}")
            print(self.defects[-1], flush=True)


def strike_all(injector: Injector, new_study: Callable[[], Study], verb: str, faults: Mapping[Site, int]) -> None:
    """Have faults strike, and require that nothing is lost.

    Args:
        injector: The injector.
        new_study: Makes another study; one is over before all have struck, for what fails in the background ends none.
        verb: The command.
        faults: Site -> error.
    """
    with tallied(verb) as tally:
        chain, strikes = Chain(injector, tally), 1
        injector.pending = dict(faults)
        while injector.pending and strikes:
            study = new_study()
            strikes = chain.run(study, verb)
            study.run("optimize.sync")
            chain.defects += study.shortfalls()
    assert not chain.defects, "\n".join(chain.defects)
    assert not injector.pending, f"never struck: {list(map(str, injector.pending))}"
