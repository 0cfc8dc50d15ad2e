"""A study starts from what earlier ones know."""

from __future__ import annotations

import re
from pathlib import Path

from optimize.driver.known_failures import KnownFailures
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from tests.conftest import Run
from tests.optimize.driver.test_session import stored


def test_the_best_of_an_earlier_study_is_tried_first(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    # Four at a time of sixteen users: other trials than the baseline are faster, whatever the machine does meanwhile.
    overloaded = [*simulated, "load.arrivals.users=16", "+baseline.batch_size=4"]
    assert optimize([*overloaded, "study.name=old", "study.trials=3", "sampler=random"]).returncode == 0
    options = ["study.name=new", "study.trials=2", "search.warm_start=[old]", "search.warm_start_points=2"]
    done = optimize([*overloaded, *options, "scenario=bulk"])
    assert done.returncode == 0, done.stderr
    found = re.search(r"starting from old: ([12]) configurations to try first", done.stdout)
    assert found is not None, done.stdout
    old, new = stored(tmp_path / "out", "old"), stored(tmp_path / "out", "new")
    tried = [t.params for t in old.trials]
    assert all(t.params in tried for t in new.trials[: 1 + int(found[1])])
    again = optimize([*overloaded, *options, "scenario=bulk", "study.trials=3"])
    assert "starting from" not in again.stdout, "only once"


def test_points_that_the_new_space_does_not_have_are_left_out(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    assert optimize([*simulated, "study.name=old", "study.trials=1", "sampler=random"]).returncode == 0
    narrow = ["search_space.batch_size.high=5", "study.trials=0", "+baseline.batch_size=4"]
    done = optimize([*simulated, "study.name=new", "search.warm_start=[old]", *narrow])
    assert done.returncode == 0, done.stderr
    assert "starting from old: 0 configurations" in done.stdout


def test_an_unknown_study_is_named_with_the_nearest(optimize: Run, simulated: list[str]) -> None:
    assert optimize([*simulated, "study.name=old", "study.trials=0"]).returncode == 0
    refused = optimize([*simulated, "study.name=new", "search.warm_start=[odl]"])
    assert refused.returncode == 2
    assert "no study 'odl'" in refused.stderr and "old" in refused.stderr
    assert refused.stderr.count("\n") == 1


def _failed(number: int, started: bool) -> TrialRecord:
    config = TrialConfig(EngineConfig("m", "fp16", (("max_num_seqs", number),)), RequestConfig())
    return TrialRecord(
        "old", number, Role.SEARCH, {},
        {"engine_key": config.engine.key, "request": {"beam_size": 1, "fields": ()}}, {},
        state=State.INFEASIBLE, reason="device_oom: no room",
        seconds={"total": 1.0, **({"engine_start": 0.5} if started else {})},
    )  # fmt: skip


def test_of_other_studies_only_engines_that_did_not_start_are_known() -> None:
    failures = KnownFailures([], [_failed(3, started=False), _failed(4, started=True)])
    found = failures.find(TrialConfig(EngineConfig("m", "fp16", (("max_num_seqs", 3),)), RequestConfig(2)))
    assert found is not None and "trial 3 of old" in found.reason
    assert failures.find(TrialConfig(EngineConfig("m", "fp16", (("max_num_seqs", 4),)), RequestConfig())) is None
