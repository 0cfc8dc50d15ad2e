"""One configuration for the traffic of several studies, from what they have stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from objectives import Direction, Estimate
from optimize.config.schema import Scenario, StudyConfig
from optimize.config.validate import check_mix
from optimize.errors import ConfigError, OptimizeError
from optimize.outcome import ROLE, Role
from optimize.recommend import recommend_for_mix
from optimize.report.mix import lack_in_words
from optimize.study.confirmation import recommendation
from optimize.study.info import StudyInfo, store_info
from optimize.study.lifecycle import stored_studies
from optimize.study.mix import StudiedTraffic, lacks, queue_lacks, traffic_of
from optimize.study.queue import params_of
from optimize.study.trust import UNPACKED
from tests.conftest import Run
from tests.optimize.config.test_bad_input import refusal

MIX = {"chat": 0.6, "bulk": 0.4}


@pytest.fixture(scope="module")
def traffic(made_studies: Path) -> list[StudiedTraffic]:
    return traffic_of(MIX, stored_studies(f"sqlite:///{made_studies}/optuna.db"), "the storage")


def test_the_command_names_one_configuration_and_what_it_costs(optimize: Run, made_studies: Path) -> None:
    done = optimize([f"output_dir={made_studies}", "mix={chat: 3, bulk: 1, abtest: 1}"], verb="optimize.recommend")
    assert done.returncode == 0, done.stderr
    assert "one configuration for 60 % chat, 20 % bulk, 20 % abtest" in done.stdout
    best, *others = json.loads((made_studies / "mix.json").read_text(encoding="utf-8"))
    assert [part["study"] for part in best["traffic"]] == ["chat", "bulk", "abtest"]
    assert all(best["cost"]["value"] <= other["cost"]["value"] for other in others)
    assert best["cost"]["low"] <= best["cost"]["value"] <= best["cost"]["high"]


def test_an_engine_stands_for_the_best_of_its_requests_and_the_recommendation_costs_nothing(
    traffic: list[StudiedTraffic],
) -> None:
    for part in traffic:
        assert part.by_engine[part.own].number == part.best.pick.number
        assert part.ratio(part.own, part.own).value == 1.0
        gain, inverse = part.ratio(part.own, part.defaults), part.ratio(part.defaults, part.own)
        assert gain.value * inverse.value == pytest.approx(1.0)


def test_ratios_of_confirmed_engines_are_those_of_the_rounds(traffic: list[StudiedTraffic]) -> None:
    chat = traffic[0]
    others = [number for number in chat.best.scores if number != chat.baseline.number]
    assert chat.best.rounds > 0 and others
    for number in others:
        assert chat.ratio(chat.engine_of(number), chat.defaults) == chat.best.scores[number]


POINT = {"batch_size": 64, "beam_size": 1}
SPACE = {
    "batch_size": optuna.distributions.IntDistribution(1, 256, log=True),
    "beam_size": optuna.distributions.CategoricalDistribution([1, 2]),
}


def studied(name: str, speeds: Sequence[tuple[dict[str, Any], float]], most: int = 256) -> StudiedTraffic:
    """Traffic of a study in memory: (settings, throughput) of each trial, vLLM's defaults first."""
    space = {**SPACE, "batch_size": optuna.distributions.IntDistribution(1, most, log=True)}
    study = optuna.create_study(study_name=name, directions=["maximize"])
    store_info(study, StudyInfo(Scenario(name, name, {"qps": 1.0}), {"qps": Direction.MAXIMIZE}))
    for number, (params, qps) in enumerate(speeds):
        attributes = {
            ROLE: str(Role.SEARCH if number else Role.BASELINE), "imputed": False,
            "estimates": {"qps": Estimate(qps, qps * 0.99, qps * 1.01, 100, "1/s").to_dict()},
            "config": {"engine_key": f"batch {params['batch_size']}" if number else "defaults"},
        }  # fmt: skip
        study.add_trial(create_trial(params=params, distributions=space, values=[qps], user_attrs=attributes))
    best = recommendation(study)
    assert best is not None
    return StudiedTraffic(study, 0.5, best)


def test_what_a_study_has_not_measured_of_the_others_recommendations_is_queued_once() -> None:
    chat = studied("chat", [({**POINT, "batch_size": 128}, 1.0), (POINT, 2.0)])
    bulk = studied("bulk", [({**POINT, "batch_size": 128}, 1.0), ({**POINT, "batch_size": 32}, 3.0)])
    missing = lacks([chat, bulk])
    assert [(lack.traffic.name, lack.source, lack.point) for lack in missing] == [
        ("bulk", "chat", POINT), ("chat", "bulk", {**POINT, "batch_size": 32}),
    ]  # fmt: skip
    assert queue_lacks(missing) == queue_lacks(missing) == {"bulk": 2, "chat": 2}
    waiting = bulk.study.get_trials(states=(TrialState.WAITING,))
    assert [params_of(trial) for trial in waiting] == [POINT]


def test_what_lies_outside_of_a_studys_space_is_left_to_measure_by_hand() -> None:
    chat = studied("chat", [({**POINT, "batch_size": 128}, 1.0), (POINT, 2.0)])
    small = studied("small", [({**POINT, "batch_size": 8}, 1.0), ({**POINT, "batch_size": 4}, 3.0)], most=8)
    lack = next(lack for lack in lacks([chat, small]) if lack.traffic is small)
    assert lack.point is None and queue_lacks([lack]) == {}
    assert lack_in_words(lack, ["+study=small"]) == (
        "small has not measured what chat recommends (outside of its search space): "
        "python -m optimize.measure +study=small +at.batch_size=64 +at.beam_size=1"
    )


def test_studies_run_for_what_they_lack_only_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic = [
        studied("chat", [({**POINT, "batch_size": 128}, 1.0), (POINT, 2.0)]),
        studied("bulk", [({**POINT, "batch_size": 128}, 1.0), ({**POINT, "batch_size": 32}, 3.0)]),
    ]
    monkeypatch.setattr("optimize.recommend._traffic", lambda config: traffic)
    runs: list[list[str]] = []

    def run(words: Sequence[str]) -> int:
        runs.append(list(words))
        return len(runs) - 1

    config = StudyConfig(output_dir=str(tmp_path), mix={"chat": 1, "bulk": 1})
    assert recommend_for_mix(config, run) == 0 and runs == []
    assert "bulk has not measured what chat recommends: python -m optimize.measure" in capsys.readouterr().out
    with pytest.raises(OptimizeError, match="study chat ended with exit code 1: the same command goes on"):
        recommend_for_mix(replace(config, mix_measure=True), run)
    assert runs == [["+study=bulk", "study.trials=2"], ["+study=chat", "study.trials=2"]]


def test_the_words_of_an_archive_are_run_only_where_they_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = studied("chat", [({**POINT, "batch_size": 128}, 1.0), (POINT, 2.0)])
    evil = studied("evil", [({**POINT, "batch_size": 128}, 1.0)])
    evil.study.set_user_attr(UNPACKED, True)
    monkeypatch.setattr("optimize.recommend._traffic", lambda config: [chat, evil])
    words = "sampler._target_=os.system unpack.trust=true"
    (tmp_path / "studies/evil").mkdir(parents=True)
    (tmp_path / "studies/evil/config.yaml").write_text(f"# given: {words}\n")
    runs: list[list[str]] = []

    def run(words: Sequence[str]) -> int:
        runs.append(list(words))
        return 0

    config = StudyConfig(output_dir=str(tmp_path), mix={"chat": 1, "evil": 1}, mix_measure=True)
    with pytest.raises(ConfigError, match="'evil' came from an archive"):
        recommend_for_mix(config, run)
    assert runs == [] and not evil.study.get_trials(states=(TrialState.WAITING,))
    config.unpack.trust = True
    assert recommend_for_mix(config, run) == 0
    assert runs == [[*words.split(), "study.trials=1", "unpack.trust=true"]]


def test_nothing_in_common_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = [studied(name, [({**POINT, "batch_size": 128}, 1.0)]) for name in ("chat", "bulk")]
    monkeypatch.setattr("optimize.recommend._traffic", lambda config: traffic)
    monkeypatch.setattr("optimize.decision.mix.compromises", lambda traffic: [])
    with pytest.raises(ConfigError, match="no configuration in common .* mix_measure=true measures"):
        recommend_for_mix(StudyConfig(output_dir=str(tmp_path), mix={"chat": 1, "bulk": 1}))


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"chat": 1, "bluk": 1}, "holds no study 'bluk'; did you mean 'bulk'"),
        ({"chat": 1, "chat-other": 1}, "cannot be compared: model: "),
    ],
)
def test_studies_that_do_not_fit_are_refused(made_studies: Path, mix: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        traffic_of(mix, stored_studies(f"sqlite:///{made_studies}/optuna.db"), "the storage")


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"chat": 1}, "two studies or more"),
        ("chat", "two studies or more"),
        ({"chat": 1, "bulk": 0}, "mix.bulk must be a positive share"),
        ({"chat": 1, "bulk": "much"}, "mix.bulk must be a positive share"),
        ({"chat": 1, "bulk": True}, "mix.bulk must be a positive share"),
    ],
)
def test_shares_that_make_no_sense_are_refused(mix: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_mix(mix)


def test_the_command_refuses_in_one_line(optimize: Run, made_studies: Path) -> None:
    done = optimize([f"output_dir={made_studies}", "mix={chat: 1}"], verb="optimize.recommend")
    assert "mix must give the shares of two studies or more, got {'chat': 1}" in refusal(done)


def test_studies_whose_engines_have_other_flags_in_common_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    studies = [studied(name, [({**POINT, "batch_size": 128}, 1.0)]).study for name in ("chat", "bulk")]
    monkeypatch.setattr(StudiedTraffic, "defaults", property(lambda self: f"defaults of {self.name}"))
    with pytest.raises(ConfigError, match=r"differ in what all engines of one share \(model.flags, engine.flags"):
        traffic_of({"chat": 1, "bulk": 1}, studies, "the storage")
