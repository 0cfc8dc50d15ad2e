"""Tests of a file stay together, and live ones of all files do; long ones begin first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT, pytest_xdist_make_scheduler
from tests.scheduler import OWN_SERVERS, LiveTogether, in_order


@dataclass(frozen=True)
class Item:
    """What the order of tests depends on."""

    nodeid: str
    fixturenames: Sequence[str] = ()
    marks: Sequence[str] = ()

    def iter_markers(self) -> Iterator[SimpleNamespace]:
        return (SimpleNamespace(name=name) for name in self.marks)


LIVE_1 = Item("tests/live/test_a.py::test_1", ["real_smoke"], ["live"])
LIVE_2 = Item("tests/live/test_b.py::test_2[x]", ["live_engines"], ["live"])
PLAIN = Item("tests/live/test_b.py::test_plain", ["live_engines", "plain_engine"], ["live"])
COMPARED = Item("tests/live/test_a.py::test_compared", ["plain_answers"], ["live"])
COLD = Item("tests/live/test_a.py::test_cold", ["plain_answers", "cold_start"], ["live"])
SLOW = Item("tests/faults/test_d.py::test_slow", [], ["slow", "timeout"])
BESIDE_SLOW = Item("tests/faults/test_d.py::test_quick")
COMMAND = Item("tests/faults/test_d.py::test_command", ["optimize"])
STUDY = Item("tests/optimize/test_e.py::test_study", ["tmp_path", "simulated"])
MADE = Item("tests/optimize/test_e.py::test_made[a::b]", ["made_studies"])
SERVER = Item("tests/live/test_serve.py::test_4", ["tmp_path"], ["live"])
PURE = Item("tests/objectives/test_c.py::test_3[a::b]", ["tmp_path"])


def test_all_that_share_engines_are_run_by_one_worker_and_any_other_file_by_one(pytestconfig: pytest.Config) -> None:
    scheduler = LiveTogether.__new__(LiveTogether)  # without the workers, of whom it asks the configuration
    scopes = [scheduler._split_scope(item.nodeid) for item in (LIVE_1, LIVE_2, SERVER, PURE)]
    assert scopes == ["tests/live/", "tests/live/", "tests/live/test_serve.py", "tests/objectives/test_c.py"]
    assert pytest_xdist_make_scheduler(pytestconfig, None) is None


@pytest.mark.parametrize("step", [1, -1])
def test_live_tests_come_first_then_the_longest_files(step: int) -> None:
    many = [replace(STUDY, nodeid=f"tests/test_f.py::test_{number}") for number in range(20)]
    scopes = [[LIVE_1, LIVE_2], many, [BESIDE_SLOW, SLOW, COMMAND], [SERVER], [STUDY, MADE], [PURE]]
    order = [LIVE_2, LIVE_1, *many, BESIDE_SLOW, SLOW, COMMAND, SERVER, MADE, STUDY, PURE]
    items = list(chain.from_iterable(scopes[::step]))
    assert in_order(items) == order  # type: ignore[arg-type, comparison-overlap]


def test_one_worker_makes_the_studies_that_all_share_while_the_others_go_on() -> None:
    longer = [replace(STUDY, nodeid=f"tests/test_f.py::test_{number}") for number in range(20)]
    first = Item("tests/test_f.py::test_made", ["made_studies"])
    order = [first, *longer, STUDY, MADE, PURE]
    items = [PURE, STUDY, MADE, *longer, first]
    assert in_order(items) == order  # type: ignore[arg-type, comparison-overlap]


@pytest.mark.parametrize("step", [1, -1])
def test_those_that_need_the_plain_engine_come_before_any_other_engine_starts(step: int) -> None:
    items = [COLD, LIVE_2, COMPARED, PLAIN][::step]
    assert in_order(items) == [PLAIN, COMPARED, LIVE_2, COLD]  # type: ignore[arg-type, comparison-overlap]


@pytest.mark.parametrize("file", OWN_SERVERS)
def test_who_runs_apart_from_live_tests_shares_no_engine_with_them(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not re.search(r"\b(live_engines|live_vllm|real_smoke|cold_start|plain_\w+|SHARED)\b", text)
