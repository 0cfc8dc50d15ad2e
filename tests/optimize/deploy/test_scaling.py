"""Replicas and autoscalers for a named rate: their figures, the schemas of their files, and what they refuse."""

import copy
import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import jsonschema
import kubernetes_validate
import pytest
import yaml

from objectives import Estimate
from optimize.config.deploy import Alerts, Autoscale, Deploy
from optimize.config.schema import StudyConfig, StudySettings
from optimize.deploy.autoscaling import ADAPTER, FILES, HPA, KEDA, rounded_down
from optimize.deploy.bundle import deploy, make_folder, render, verified, write_bundle
from optimize.deploy.scaling import Scaling
from optimize.deploy.verify import Serving
from optimize.engine.process import ColdTree
from optimize.errors import ConfigError
from optimize.study.capacity import CAPACITY
from optimize.study.rows import StudyRow
from tests.optimize.deploy.keda import SCHEMA, autoscaler_of
from tests.optimize.deploy.scaled import FIGURES_WITH_CAPACITY, ROW, deployment_of, documents, replicas_in
from tests.optimize.rows import FIGURES, study_row

# Replicas


def test_the_deployment_has_the_replicas_that_the_rate_needs() -> None:
    assert replicas_in(render(deployment_of(), Alerts())) == 5  # 30 over 70 % of 10
    assert replicas_in(render(deployment_of(replicas=8), Alerts())) == 8
    assert replicas_in(render(deployment_of(rate_per_s=None, replicas=2), Alerts())) == 2


def test_a_wide_interval_of_the_capacity_is_told_by_the_replicas_that_it_costs() -> None:
    narrow, wide = (Scaling(30.0, Estimate(12.0, low, 14.0, 3, "1/s"), Autoscale(), 1) for low in (10.0, 4.0))
    assert narrow.in_words() == "5 replicas for 30 requests/s: 7 each, by a single measurement of the capacity"
    assert "11 replicas for 30 requests/s: 2.8 each, " in wide.in_words()
    assert "; 4 if the capacity, 12 (4–14) requests/s, were exact: " in wide.in_words()


def test_replicas_count_on_what_engines_have_on_average_over_the_rounds() -> None:
    """A further measurement may be as low as 4; a fleet's mean is not."""
    row, mean = (
        study_row(figures=FIGURES | {CAPACITY: Estimate(12.0, 4.0, 36.0, 3, "1/s")}),
        Estimate(12, 10, 14, 3, "1/s"),
    )
    candidate = dataclasses.replace(row.candidate, means={CAPACITY: mean, "qps": mean})
    best = dataclasses.replace(row.row.recommendation, pick=candidate, rounds=3)
    deployment = deployment_of(dataclasses.replace(row, row=dataclasses.replace(row.row, recommendation=best)))
    assert deployment.scaling is not None and deployment.scaling.in_words() == (
        "5 replicas for 30 requests/s: 7 each, by the mean of 3 rounds: what engines differ by cancels out over many"
    )
    assert deployment.capacity == mean and deployment.estimates["qps"] == FIGURES["qps"]


def test_the_times_follow_from_the_start_of_a_replica() -> None:
    quick, slow = (Scaling(30.0, FIGURES_WITH_CAPACITY[CAPACITY], Autoscale(), 1, start_s) for start_s in (45.0, 600.0))
    assert (quick.reaction_s, quick.hold_s) == (120.0, 360)  # 60 s of rates, 15 s between decisions
    assert (slow.reaction_s, slow.hold_s) == (675.0, 2025)
    assert Scaling(30.0, FIGURES_WITH_CAPACITY[CAPACITY], Autoscale(), 1, 3000.0).hold_s == 3600  # the API's bound


@pytest.mark.parametrize(
    ("p99", "seconds"),
    [(Estimate(3.0, 2.5, 3.6, 9, "s"), 9), (Estimate(3.0, 2.5, math.inf, 9, "s"), 35), (None, 35)],
)
def test_a_removed_pod_answers_for_as_long_as_its_answers_may_take(p99: Estimate | None, seconds: int) -> None:
    figures = {n: e for n, e in (FIGURES_WITH_CAPACITY | {"p99_latency_s": p99}).items() if e is not None}
    deployment, *_ = yaml.safe_load_all(render(deployment_of(study_row(figures=figures)), Alerts())["kubernetes.yaml"])
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": seconds}}
    assert pod["terminationGracePeriodSeconds"] > seconds  # or the signal to stop comes first


# Files


def test_a_rate_without_a_start_up_time_waits_for_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "bundle")
    deployment = deployment_of(folder=folder, autoscale={"start_s": None})
    assert deployment.scaling is not None
    write_bundle(deployment, Alerts(), None)
    assert not [name for name in FILES if (folder / name).exists()]
    quick = dataclasses.replace(deployment, scaling=dataclasses.replace(deployment.scaling, start_s=33.0))
    write_bundle(quick, Alerts(), None)
    assert [name for name in FILES if (folder / name).exists()] == list(FILES)


def test_a_bundle_without_a_rate_loses_the_autoscalers_of_an_earlier_one(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "bundle")
    write_bundle(deployment_of(folder=folder), Alerts(), None)
    assert (folder / KEDA).exists() and "## Scale it" in (folder / "README.md").read_text()
    write_bundle(deployment_of(folder=folder, rate_per_s=None), Alerts(), None)
    assert not [name for name in FILES if (folder / name).exists()]
    assert "## Scale it" not in (folder / "README.md").read_text()


def test_the_scaled_object_has_the_measured_figures() -> None:
    spec = documents(deployment_of(autoscale={"replicas_max": 9}))[KEDA]["spec"]
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["threshold"] == "7.00"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (1, 9, 360)
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 5}
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 360
    assert trigger["metadata"]["ignoreNullValues"] == "false"


def test_both_autoscalers_follow_the_same_rule() -> None:
    files = documents(deployment_of())
    keda, own = autoscaler_of(files[KEDA]), files[HPA]
    for name in ("scaleTargetRef", "minReplicas", "maxReplicas", "behavior"):
        assert keda["spec"][name] == own["spec"][name]
    assert keda["spec"]["metrics"][0]["external"]["target"] == own["spec"]["metrics"][0]["external"]["target"]
    (rule,) = files[ADAPTER]["rules"]["external"]
    assert rule["metricsQuery"] == files[KEDA]["spec"]["triggers"][0]["metadata"]["query"]
    assert rule["name"]["as"] == own["spec"]["metrics"][0]["external"]["metric"]["name"]
    assert own["spec"]["scaleTargetRef"]["name"] == deployment_of().name


def test_the_autoscalers_are_valid_by_their_schemas() -> None:
    files = documents(deployment_of())
    jsonschema.validate(files[KEDA], SCHEMA)
    for one in (files[HPA], autoscaler_of(files[KEDA])):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_the_schemas_refuse_errors() -> None:
    files = documents(deployment_of())
    for path, name in (
        (("spec",), "maxReplicas"),
        (("spec", "triggers", 0), "metaData"),
        (("spec",), "coolDownPeriod"),
    ):
        wrong = copy.deepcopy(files[KEDA])
        part: Any = wrong
        for key in path:
            part = part[key]
        part[name] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)
    files[HPA]["spec"]["behavior"]["scaleDown"]["stabilizationWindow"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(files[HPA], kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("value", "text"), [(7.0, "7.00"), (0.7 * 10, "7.00"), (6.999, "6.99"), (0.01234, "0.0123"), (1234.9, "1234")]
)
def test_a_threshold_is_never_above_the_measured_load(value: float, text: str) -> None:
    assert rounded_down(value) == text


# The command


def _config(tmp_path: Path, **settings: Any) -> StudyConfig:
    autoscale = Autoscale(start_s=45.0)
    deploy = Deploy(folder=str(tmp_path / "bundle"), verify=False, rate_per_s=30.0, autoscale=autoscale, **settings)
    return StudyConfig(study=StudySettings(name="chat"), deploy=deploy, output_dir=str(tmp_path))


def test_the_command_writes_replicas_and_autoscalers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("optimize.deploy.bundle.runnable_row", lambda config: ROW)
    assert deploy(_config(tmp_path)) == 0
    assert "5 replicas for 30 requests/s: 7 each" in capsys.readouterr().out
    assert [name for name in FILES if (tmp_path / "bundle" / name).exists()] == list(FILES)


def test_a_rate_that_no_capacity_answers_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.deploy.bundle.runnable_row", lambda config: study_row())
    with pytest.raises(ConfigError, match="capacity_per_s"):
        deploy(_config(tmp_path))
    assert not (tmp_path / "bundle").exists()


def test_the_start_that_is_measured_makes_the_autoscalers(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def started(folder: Path, timeout_s: float) -> Iterator[Serving]:
        yield Serving("http://127.0.0.1:1", "k", 33.0, cast(ColdTree, None))

    monkeypatch.setattr("optimize.deploy.bundle.serving", started)
    monkeypatch.setattr("optimize.deploy.bundle.memory_after_answers", lambda server, model: 2.0**30)
    measured = verified(deployment_of(autoscale={"start_s": None}))
    assert measured.scaling is not None and measured.scaling.start_s == 33.0 and measured.memory_mib == 1229
    own = verified(deployment_of(autoscale={"start_s": 240.0}))  # the user knows the cluster
    assert own.scaling is not None and own.scaling.start_s == 240.0


# What people read


def test_the_readme_tells_each_figure_and_its_origin() -> None:
    text = render(deployment_of(), Alerts())["README.md"]
    for part in (
        "starts 5 replicas:",
        "5: 30 requests/s over 7, and at least 1 (deploy.replicas)",
        "| capacity of one replica | 12.0 (10.0–14.0) requests/s, by a single measurement of the capacity |",
        "7 requests/s: 70 % of the lower end of the capacity's interval",
        "120 s: 60 s of rates, 15 s between decisions, 45 s of start-up",
        "after 360 s without need",
        "between 1 and 5 replicas",
    ):
        assert part in text, part


def test_a_capacity_that_was_never_reached_is_called_a_lower_bound() -> None:
    row = study_row(figures=FIGURES | {CAPACITY: Estimate(12.0, 11.0, 12.0, 3, "1/s")})
    assert "requests/s, or more, by" in render(deployment_of(row), Alerts())["README.md"]


# Refusals


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        (study_row(), {}, "^deploy.rate_per_s needs capacity_per_s of trial 4 of study chat, which was not measured: "),
        (
            ROW,
            {"autoscale": {"replicas_max": 4}},
            "^deploy.autoscale.replicas_max=4 is less than the 5 replicas that deploy.rate_per_s=30 and",
        ),
        (
            ROW,
            {"verify": False, "autoscale": {"start_s": None}},
            "^deploy.rate_per_s needs the start-up time of a replica: leave deploy.verify=true, .*autoscale.start_s$",
        ),
    ],
)
def test_what_no_autoscaler_can_be_made_of_is_refused(row: StudyRow, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        deployment_of(row, **settings)
    assert "\n" not in str(refusal.value)
