"""Every file write of a study fails once; the same command then goes on.

Of the operations on one kind of file one fails, and functions and errors take turns. With FAULTS=all in the
environment every operation fails with each of the errors, which takes more than a quarter of an hour.
"""

from __future__ import annotations

import errno
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.faults.injector import ERRORS, Fault, Injector, Site
from tests.faults.study import ALL, Session, Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SESSIONS_MAX = 1000
FULL = 3
"""Moments of a study at which its disk is full from then on."""


def chosen(sites: Mapping[Site, None]) -> dict[Site, int]:
    """One site of each kind of file, functions, operations and errors taking turns."""
    groups: dict[str, list[Site]] = {}
    for site in sites:
        groups.setdefault(site.kind, []).append(site)
    sites_of_groups = (group[place % len(group)] for place, group in enumerate(groups.values()))
    return dict(zip(sites_of_groups, itertools.cycle(ERRORS), strict=False))


def rounds(sites: Mapping[Site, None]) -> list[dict[Site, int]]:
    """The faults to inject, each round with one error of a site."""
    return [dict.fromkeys(sites, error) for error in ERRORS] if ALL else [chosen(sites)]


class Chain:
    """Runs a command again and again, each time into the next fault.

    Args:
        injector: Strikes.

    Attributes:
        defects: What went wrong, in words.
        counts: (kind of file, how the session ended) -> number of faults.
    """

    def __init__(self, injector: Injector) -> None:
        self._injector = injector
        self.defects: list[str] = []
        self.counts: Counter[tuple[str, str]] = Counter()

    def run(self, study: Study, verb: str = "optimize") -> int:
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
        wrong = [session.complaint(), *study.losses()]
        if session.code and not faults:
            wrong.append(f"it did not go on: {session.err}")
        wrong = [text for text in wrong if text]
        end = "lost" if wrong else "went on" if session.code else "survived"
        self.counts.update((fault.site.kind, end) for fault in faults)
        self.defects += [f"{'; '.join(map(str, faults)) or 'no fault'}: {text}" for text in wrong]


def strike_all(injector: Injector, fresh: Callable[[], Study], verb: str, faults: Mapping[Site, int]) -> None:
    """Have faults strike, and require that nothing is lost.

    Args:
        injector: The injector.
        fresh: Makes another study; one is over before all have struck, for what fails in the background ends nothing.
        verb: The command.
        faults: Site -> error.
    """
    chain, struck = Chain(injector), 1
    injector.pending = dict(faults)
    while injector.pending and struck:
        study = fresh()
        struck = chain.run(study, verb)
        study.run("optimize.sync")
        chain.defects += study.shortfalls()
    finish(chain)
    assert not injector.pending, f"never struck: {list(map(str, injector.pending))}"


def finish(chain: Chain) -> None:
    """Say what struck, and require that nothing was lost."""
    ends = Counter(end for (_, end), number in chain.counts.items() for _ in range(number))
    print(f"injected {ends.total()}: {dict(ends)}")
    for (kind, end), number in sorted(chain.counts.items()) if ALL else ():
        print(f"  {kind}: {number} {end}")
    assert not chain.defects, "\n".join(chain.defects)


@pytest.fixture
def studies(tmp_path: Path, empty_mlflow_db: Path) -> Callable[[], Study]:
    """Makes studies, each in a folder of its own."""
    numbers = itertools.count()
    return lambda: Study(tmp_path / f"study{next(numbers)}", empty_mlflow_db)


def sites_of(injector: Injector, study: Study, verb: str = "optimize") -> dict[Site, None]:
    """Where a command writes, in order."""
    with injector.session():
        assert study.run(verb).code == 0
    return dict(injector.sites)


def test_every_write_of_a_study_fails_once(tmp_path: Path, studies: Callable[[], Study]) -> None:
    injector = Injector(tmp_path)
    for faults in rounds(sites_of(injector, studies())):
        strike_all(injector, studies, "optimize", faults)


def test_a_disk_that_stays_full_ends_a_session_in_one_line(tmp_path: Path, studies: Callable[[], Study]) -> None:
    injector = Injector(tmp_path, lasting=True)
    sites = list(sites_of(injector, studies()))
    full = dict.fromkeys(sites[:: 1 if ALL else len(sites) // FULL], errno.ENOSPC)
    strike_all(injector, studies, "optimize", full)


def test_every_write_of_the_other_commands_fails_once(
    tmp_path: Path, studies: Callable[[], Study], empty_mlflow_db: Path
) -> None:
    study, numbers = studies(), itertools.count()
    assert study.run().code == 0 and study.losses() == []

    def fresh() -> Study:
        study.track_in(empty_mlflow_db, f"store{next(numbers)}")
        return study

    for verb in ("optimize.report", "optimize.recommend", "optimize.sync"):
        injector = Injector(tmp_path)
        for faults in rounds(sites_of(injector, fresh(), verb)):
            strike_all(injector, fresh, verb, faults)
