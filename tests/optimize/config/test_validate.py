"""Every check of a configuration by itself: the rule, the value and the remedy."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator

import pytest

from optimize.certify.faults import FAULTS
from optimize.certify.schedule import STRESS
from optimize.config.bounds import Bounds, bounds_of
from optimize.config.certify import SCENARIOS
from optimize.config.schema import StudyConfig
from optimize.config.validate import validate
from optimize.errors import ConfigError
from tests.overrides import changed


def _bounded(cls: type, prefix: str = "") -> Iterator[tuple[str, Bounds]]:
    """Key -> bounds, of all that has any."""
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind, bounds = types[field.name], bounds_of(field)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _bounded(kind, f"{prefix}{field.name}.")
        elif bounds is not None:
            yield f"{prefix}{field.name}", bounds


BOUNDED = dict(_bounded(StudyConfig))


def _outside(bounds: Bounds) -> str:
    """A value that is out of bounds, in YAML."""
    if bounds.choices:
        return "no such choice"
    return str(bounds.above if bounds.above > float("-inf") else bounds.least - 1)


@pytest.mark.parametrize("study", ["smoke", "chat", "bulk", "abtest"])
def test_the_studies_of_the_project_are_valid(study: str) -> None:
    validate(changed(study=study))


@pytest.mark.parametrize("key", BOUNDED)
def test_every_bound_of_the_schema_is_checked(key: str) -> None:
    value = _outside(BOUNDED[key])
    many = {"scenario.weights": f"{{qps: {value}}}", "load.precision": f"{{qps: {value}}}",
            "price.factors": f"{{aws_p5: {value}}}", "guard.margins": f"{{qps: {value}}}",
            "certify.scenarios": f"[{value}]"}  # fmt: skip
    with pytest.raises(ConfigError, match=rf"^{key}[.\w]* must "):
        validate(changed(f"{key}={many.get(key, value)}"))


def test_metrics_name_files_of_their_figures() -> None:
    config = changed("study.trials=1")
    config.metrics["a/../b"] = config.objectives["qps"]
    with pytest.raises(ConfigError, match="^name of a metric='a/../b' must consist of letters"):
        validate(config)


def test_bounds_reach_into_mappings_of_the_schemas_classes() -> None:
    with pytest.raises(ConfigError, match=r"^recipes\.int4\.calibration_samples must not be negative, got -1$"):
        validate(changed("recipes.int4.calibration_samples=-1"))
    with pytest.raises(ConfigError, match=r"^instances\.aws_p5\.hourly_usd must be positive or null, got 0: choose "):
        validate(changed("instances.aws_p5.hourly_usd=0"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("study.name=''", "study.name='' must consist of letters, digits, '-', '_' and '.'"),
        ("study.name=..", "study.name='..' must consist of letters"),
        ("study.name=team/chat", "study.name='team/chat' must consist of letters"),
        ("tables.again='../../x'", "tables.again='../../x' must consist of letters"),
        ("study.name=a/b", "study.name='a/b' must consist of"),
        ("study.trials=-1", "study.trials must not be negative, got -1"),
        ("study.minutes=0", "study.minutes must be positive or null, got 0"),
        ("search.until=nosie", "search.until must be one of budget, noise, got 'nosie'; did you mean 'noise'?"),
        ("confirm.rounds=1", "confirm.rounds must be at least 2, got 1: one round says nothing of how far"),
        ("objectives={}", "objectives is empty: name at least one"),
        ("scenario.weights={qps: -1}", "scenario.weights.qps must not be negative, got -1"),
        ("scenario.weights={sqp: 1}", "scenario.weights gives none of the objectives (qps, p99_latency_s, memory_byte"),
        ("scenario.weights={sqp: 1}", "a positive weight; did you mean 'qps'?"),
        ("load.clients=0", "load.clients must be positive, got 0"),
        ("load.warmup_max_s=0.5", "load.warmup_s=1 is more than load.warmup_max_s=0.5: raise the second"),
        ("load.window_max_s=4", "load.window_min_s=5 is more than load.window_max_s=4: raise the second"),
        ("load.clients_max=0.5", "load.clients=1 is more than load.clients_max=0.5: raise the second"),
        ("load.precision={p98_latency_s: 0.1}", "load.precision.p98_latency_s is no metric of this study; did you mea"),
        ("load.precision={qps: 0}", "load.precision.qps must be positive, got 0: it is a share, e.g. 0.05"),
        ("load.iterations.measured=-1", "load.iterations.measured must not be negative, got -1"),
        ("executor.kind=rey", "executor.kind must be one of local, ray, got 'rey'; did you mean 'ray'?"),
        ("executor.engines=0", "executor.engines must be at least 1 or null, got 0"),
        ("recipes.int8.checkpoint=a/b", "recipes.int8 gives scheme and checkpoint: give one of scheme, modifiers, rec"),
        ("at={batch_size: [1, 2]}", "at.batch_size must be one value, got [1, 2]: measure one configuration at a time"),
        ("tables.batch_size=[4]", "tables.batch_size=[4] leaves nothing to compare: give at least two values"),
        ("tables.batch_size=[4, 4]", "tables.batch_size holds 4 twice: leave one out"),
        ("tables.workers=[[4], 8]", "tables.workers must hold plain values, got [4] in [[4], 8]"),
        ("repeats=0", "repeats must be at least 1, got 0"),
        ("serve.beams_over=clam", "serve.beams_over must be one of refuse, clamp, got 'clam'; did you mean 'clamp'?"),
        ("serve.answers_together=8", "serve.answers_max=256 is more than serve.answers_together=8: lower the first"),
        ("serve.kv_low=0.95", "serve.kv_low=0.95 is more than serve.kv_high=0.9: lower the first"),
        (
            "serve.canary.share=0.5",
            "serve.canary has settings but no candidate: name a row (serve.canary.row=",
        ),
        ("serve.canary.at={batch_size: [4, 8]}", "serve.canary.at.batch_size must be one value, got [4, 8]"),
        ("certify.scenarios=[kil]", "certify.scenarios must be one of stress, kill, oom"),
        ("certify.scenarios=[kil]", "got 'kil'; did you mean 'kill'?"),
        ("certify.scenarios=[kill, hang, kill]", "certify.scenarios holds 'kill' twice: leave one out"),
        ("certify.stress_steps=[0.5, 1, 1.0]", "certify.stress_steps holds 1.0 twice: leave one out"),
        ("search.warm_start=[chat, chat]", "search.warm_start holds 'chat' twice: leave one out"),
        ("executor.cpu_sets=['0-3', '0-3']", "executor.cpu_sets holds '0-3' twice: leave one out"),
        ("workload.path=[a.jsonl, a.jsonl]", "workload.path holds 'a.jsonl' twice: leave one out"),
        ("drift.scrape=[a.txt, a.txt]", "drift.scrape holds 'a.txt' twice: leave one out"),
        ("whatif.prompts=[1, 2, 1]", "whatif.prompts holds 1 twice: leave one out"),
        ("recipes.int8.ignore=[lm_head, lm_head]", "recipes.int8.ignore holds 'lm_head' twice: leave one out"),
        ("certify.tolerance=0.5", "certify.tolerance must be at least 1, got 0.5"),
        ("certify.stress_steps=[]", "certify.stress_steps is empty: give shares of the capacity"),
        ("certify.stress_steps=[1, 0]", "certify.stress_steps must be positive, got 0"),
        ("deploy.port=70000", "deploy.port must be from 1 to 65535, got 70000"),
        ("deploy.headroom=-0.1", "deploy.headroom must not be negative, got -0.1: it is a share, e.g. 0.2"),
        ("alerts.queue_s.warn=2", "alerts.queue_s.warn=2 is more than alerts.queue_s.critical=1: lower the first"),
        ("alerts.decode_s.warn=0", "alerts.decode_s.warn must be positive, got 0"),
        ("alerts.cpu.critical=1.0", "alerts.cpu.critical must be a share below 1, got 1"),
        ("alerts.quantile=1.0", "alerts.quantile must be between 0 and 1, got 1"),
        ("alerts.window_s=1", "alerts.window_s must hold at least two readings, got 1 s at alerts.scrape_s=1"),
        (
            "alerts.capacity.warn=1.2",
            "alerts.capacity.warn=1.2 is more than alerts.capacity.critical=1: lower the first",
        ),
        ("deploy.rate_per_s=0", "deploy.rate_per_s must be positive or null, got 0"),
        ("deploy.autoscale.load_share=1.5", "deploy.autoscale.load_share must be between 0 and 1, got 1.5"),
        ("deploy.autoscale.prometheus_url=prometheus:9090", "prometheus_url must be http(s)://host:port without user"),
        (
            "deploy.autoscale.prometheus_url='http://u:p@host'",
            "prometheus_url must be http(s)://host:port without user",
        ),
        (
            "price.factors={aws_p6: 2}",
            "aws_p6 is not among the compared hardware; did you mean 'aws_p5'?",
        ),
        ("price.factors={aws_p5: 0}", "price.factors.aws_p5 must be positive, got 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        validate(changed(override))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_number_of_iterations_takes_the_place_of_lengths_that_contradict_each_other() -> None:
    validate(changed("load.warmup_s=100", "load.iterations.measured=5"))


def test_an_autoscaler_leaves_room_below_the_alert_on_the_capacity() -> None:
    validate(changed("deploy.rate_per_s=5", "deploy.autoscale.load_share=0.72"))
    validate(changed("deploy.autoscale.load_share=0.75"))  # no rate, no autoscaler
    with pytest.raises(
        ConfigError, match=r"^deploy\.autoscale\.load_share=0\.75 must stay a tenth below alerts\.capac"
    ):
        validate(changed("deploy.rate_per_s=5", "deploy.autoscale.load_share=0.75"))


def test_hardware_without_a_price_is_not_compared() -> None:
    own = ["hardware.name=mine", "price.factors={mine: 2.0}"]
    validate(changed(*own, "hardware.hourly_usd=1.5"))
    with pytest.raises(ConfigError, match=r"price\.factors\.mine is not among the compared hardware"):
        validate(changed(*own))


def test_the_scenarios_of_a_certification_are_those_that_it_can_run() -> None:
    assert (STRESS, *FAULTS) == SCENARIOS
