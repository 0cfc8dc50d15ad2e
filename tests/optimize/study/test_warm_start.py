"""Warm start from earlier studies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from objectives import Estimate
from optimize.driver.known_failures import KnownFailures
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.errors import ConfigError
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.testing.instant_workers import Instant
from tests.made import make_study
from tests.optimize.driver.test_session import stored
from tests.storages import connections_to


class FasterWithFewer(Instant):
    """The smaller the batch, the better in everything: other trials than the baseline are better."""

    def figures(self, config: TrialConfig) -> dict[str, Estimate]:
        batch = dict(config.engine.flags).get("max_num_seqs", 128)
        values = {"qps": 1 + 1 / batch, "p99_latency_s": 1 - 0.5 / batch, "error_rate": 0.0}
        every = {name: values.get(name, 1.0) for name in self._plan.metrics}
        return {name: Estimate(v, v * 0.99, v * 1.01, 100, "") for name, v in every.items()}


def test_the_best_of_an_earlier_study_is_tried_first(
    simulated: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study([*simulated, "study.name=old", "study.trials=3", "sampler=random"], FasterWithFewer)
    options = ["study.name=new", "search.warm_start=[old]", "search.warm_start_points=2", "scenario=bulk"]
    make_study([*simulated, *options, "study.trials=2"], FasterWithFewer)
    message = re.search(r"starting from old: ([12]) configurations to try first", capsys.readouterr().out)
    assert message is not None
    old, new = stored(tmp_path / "out", "old"), stored(tmp_path / "out", "new")
    params = [t.params for t in old.trials]
    assert all(t.params in params for t in new.trials[: 1 + int(message[1])])
    with connections_to(tmp_path / "out/optuna.db") as connections:
        make_study([*simulated, *options, "study.trials=3"], FasterWithFewer)
    assert "starting from" not in capsys.readouterr().out, "only once"
    assert connections == {}, "a session leaves connections open, its own or those of earlier studies"


def test_points_outside_the_new_space_are_left_out(simulated: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    make_study([*simulated, "study.name=old", "study.trials=1", "sampler=random"])
    narrow = ["search_space.batch_size.high=5", "study.trials=0", "+baseline.batch_size=4"]
    make_study([*simulated, "study.name=new", "search.warm_start=[old]", *narrow])
    assert "starting from old: 0 configurations" in capsys.readouterr().out


def test_an_unknown_study_is_refused_with_the_nearest_name(simulated: list[str]) -> None:
    make_study([*simulated, "study.name=old", "study.trials=0"])
    with pytest.raises(ConfigError, match="no study 'odl' in .*old"):
        make_study([*simulated, "study.name=new", "search.warm_start=[odl]"])


def _failed(number: int, started: bool) -> TrialRecord:
    config = TrialConfig(EngineConfig("m", "fp16", (("max_num_seqs", number),)), RequestConfig())
    return TrialRecord(
        "old", number, Role.SEARCH, {},
        {"engine_key": config.engine.key, "request": {"beam_size": 1, "fields": ()}}, {},
        state=State.INFEASIBLE, reason="device_oom: no room",
        seconds={"total": 1.0, **({"engine_start": 0.5} if started else {})},
    )  # fmt: skip


def test_failures_of_other_studies_count_where_the_engine_did_not_start() -> None:
    failures = KnownFailures([], [_failed(3, started=False), _failed(4, started=True)])
    found = failures.find(TrialConfig(EngineConfig("m", "fp16", (("max_num_seqs", 3),)), RequestConfig(2)))
    assert found is not None and "trial 3 of old" in found.reason
    assert failures.find(TrialConfig(EngineConfig("m", "fp16", (("max_num_seqs", 4),)), RequestConfig())) is None
