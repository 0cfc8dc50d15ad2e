"""Warm start from earlier studies."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
import pytest

from objectives import Estimate
from optimize.config.compose import configuration
from optimize.driver.known_failures import KnownFailures
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.errors import ConfigError
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.study.info import ATTRIBUTE, StudyInfo
from optimize.study.measured_defaults import MEASURED, settings_for
from optimize.study.resemblance import distance, in_words
from optimize.testing.instant_workers import Instant
from tests.made import make_study
from tests.optimize.driver.test_session import stored
from tests.storages import connections_to

ROOT = Path(__file__).parents[3]


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
    result = failures.find(TrialConfig(EngineConfig("m", "fp16", (("max_num_seqs", 3),)), RequestConfig(2)))
    assert result is not None and "trial 3 of old" in result.reason
    assert failures.find(TrialConfig(EngineConfig("m", "fp16", (("max_num_seqs", 4),)), RequestConfig())) is None


def test_by_itself_a_study_starts_from_the_one_that_resembles_it_most(
    simulated: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study([*simulated, "study.name=near", "study.trials=1"], FasterWithFewer)
    near = stored(tmp_path / "out", "near")
    url = f"sqlite:///{tmp_path / 'out/optuna.db'}"
    optuna.copy_study(from_study_name="near", from_storage=url, to_storage=url, to_study_name="a-far-one")
    about = near.user_attrs[ATTRIBUTE]
    far = {**about, "scale": {name: 2 * figure for name, figure in about["scale"].items()}}
    stored(tmp_path / "out", "a-far-one").set_user_attr(ATTRIBUTE, far)
    capsys.readouterr()
    make_study([*simulated, "study.name=new", "search.warm_start=auto", "study.trials=1"], FasterWithFewer)
    alike = "same machine, model 1×, prompts 1×, answers 1×"
    assert f"starting from near ({alike}): 1 configurations to try first" in capsys.readouterr().out


def test_where_no_study_resembles_it_settings_of_its_class_of_machines_are_tried(
    simulated: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [{"batch_size": 7}, {"batch_size": 7}, {"unknown_knob": 1}, {"batch_size": 10**6}]
    monkeypatch.setattr("optimize.study.warm_start.settings_for", lambda machine: settings)
    make_study([*simulated, "study.name=first", "search.warm_start=auto", "study.trials=1"], FasterWithFewer)
    text = "starting from settings that were measured on such machines, for no study resembles it: 1 configurations"
    assert text in capsys.readouterr().out
    assert stored(tmp_path / "out", "first").trials[1].params["batch_size"] == 7
    monkeypatch.setattr("optimize.study.warm_start.settings_for", lambda machine: [])
    monkeypatch.setattr("optimize.study.warm_start.stored_studies", lambda url: [])
    make_study([*simulated, "study.name=second", "search.warm_start=auto", "study.trials=0"], FasterWithFewer)
    assert "no earlier study resembles this one" in capsys.readouterr().out


def test_what_is_neither_auto_nor_a_list_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be auto or a list of studies, got 'old': search\.warm_start=\[old\]"):
        configuration(["+study=chat", "search.warm_start=old"])


def test_resemblance_counts_doublings_and_the_machine() -> None:
    scale = {"model_bytes": 1e9, "prompt_characters": 400.0, "answer_tokens": 64.0}
    here = StudyInfo(machine_class="a", scale=scale)
    assert distance(here, here) == 0.0
    assert distance(here, StudyInfo(machine_class="b", scale=scale)) == 3.0
    other = StudyInfo(machine_class="a", scale={**scale, "model_bytes": 4e9, "answer_tokens": 32.0})
    assert distance(here, other) == distance(other, here) == 3.0
    assert distance(here, StudyInfo(machine_class="a")) == 3.0, "an older study states none of its sizes"
    assert in_words(here, other) == "same machine, model 4×, prompts 1×, answers 0.5×"


def test_measured_settings_are_those_of_a_class_and_their_pages_exist() -> None:
    bf16, avx2 = ("AMD EPYC (family 26 model 2, AVX-512 BF16), 2 cores", "AMD EPYC (family 25 model 17, AVX2), 2 cores")
    assert settings_for(avx2) == [{"quantization": "fp32"}]
    assert {"quantization": "int8"} in settings_for(bf16)
    assert settings_for(f"{bf16}, 24 GiB; NVIDIA H100") == settings_for("Neoverse-N1 (NEON), 4 cores") == []
    assert all((ROOT / f"docs/results/{entry.source}.md").is_file() for entry in MEASURED)
