"""Detection is timed by a clock that nobody can set."""

from __future__ import annotations

import ast
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from optimize.certify.context import FaultContext, now
from optimize.errors import TransientFault
from optimize.serve.restart_log import Restart
from tests.conftest import ROOT


def context_of(**supervisor: Any) -> FaultContext:
    engine = SimpleNamespace(supervisor=SimpleNamespace(**supervisor), metrics=[])
    anything = cast(Any, None)
    return FaultContext(anything, cast(Any, engine), anything, 1.0, False, injected_at=now())


def restart(after_s: float) -> Restart:
    """A restart whose time of day was set back by a day between the fault and its detection."""
    return Restart(1, "crash", "killed", "warm", -86400.0, 0.1, 1.5, 1, 0.0, "log", detected_s=now() + after_s)


def test_a_clock_that_is_set_back_moves_no_detection() -> None:
    own = [restart(-9.0), restart(2.0), restart(3.0)]
    context = context_of(restarts=SimpleNamespace(own=own), missed_probes=deque())
    assert context.restart_detected_s() == pytest.approx(2.0, abs=0.5)
    assert context.missed_probe_s() == pytest.approx(2.0, abs=0.5)


def test_the_first_missed_probe_after_the_fault_detects_it() -> None:
    context = context_of(restarts=SimpleNamespace(own=[]), missed_probes=deque([now() - 5, now() + 0.5, now() + 4]))
    assert context.missed_probe_s() == pytest.approx(0.5, abs=0.2)


def test_the_time_of_day_is_read_for_records_only() -> None:
    allowed = {"optimize/serve/supervisor.py": ["detected_at"], "optimize/certify/session.py": ["started_at"]}
    for path in [p for folder in ("serve", "certify") for p in (ROOT / "optimize" / folder).glob("*.py")]:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if ast.unparse(n) == "time.time()"]
        assert len(calls) == len(allowed.get(str(path.relative_to(ROOT)), [])), path


def test_an_action_that_fails_in_its_thread_fails_the_run() -> None:
    def fail() -> None:
        raise FileNotFoundError(2, "No such file or directory", "away")

    context = context_of()
    context.later(0.0, fail)
    with pytest.raises(TransientFault, match="the fault was not carried out: FileNotFoundError"):
        context.end()
