"""Every check that a configuration can be put to by itself, before anything is built, opened or started."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from optimize.config.bounds import bounds_of
from optimize.config.canary import Canary
from optimize.config.certify import Certify
from optimize.config.deploy import Alerts, Levels
from optimize.config.names import check_name
from optimize.config.recipes import check_source
from optimize.config.repetition import refuse_repetition
from optimize.config.schema import AUTO, StudyConfig
from optimize.config.serve import Serve
from optimize.config.tables import Tables
from optimize.errors import ConfigError, closest

_KNOBS = ("quantization", "batch_size", "beam_size", "workers")
_TOLERANCE = 1.1  # of Kubernetes' autoscaler: a tenth more load than its target calls for no replica
_ORDERED = (("warmup_s", "warmup_max_s"), ("window_min_s", "window_max_s"), ("clients", "clients_max"))


def validate(config: StudyConfig) -> None:
    """Refuse a configuration that is wrong whatever the machine, the model and the studies so far are.

    Raises:
        ConfigError: the first rule that is broken, the value and the remedy.
    """
    _check_bounds(config, "")
    check_name("study.name", config.study.name)
    if config.tables.again is not None:
        check_name("tables.again", config.tables.again)
    _check_warm_start(config.search.warm_start)
    _check_metrics(config)
    _check_load(config)
    for recipe in [*config.recipes.values(), config.quantization]:
        check_source(recipe)
    _check_at(config.at)
    check_mix(config.mix)
    _check_tables(config.tables)
    _check_serve(config.serve)
    _check_margins(config)
    _check_certify(config.certify)
    _check_alerts(config.alerts)
    _check_scaling(config)
    _check_factors(config)


def _check_bounds(settings: Any, prefix: str) -> None:
    """Compare all values below a class of the schema with the bounds of their fields; lists hold each value once."""
    for field in dataclasses.fields(settings):
        key, value = f"{prefix}{field.name}", getattr(settings, field.name)
        for name, part in _parts(key, value):
            _check_bounds(part, f"{name}.")
        if bounds := bounds_of(field):
            bounds.check(key, value)
        if isinstance(value, list):
            refuse_repetition(key, value)


def _parts(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Classes of the schema within a value, and their keys."""
    items = {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
    return ((name, item) for name, item in items.items() if dataclasses.is_dataclass(item))


def _check_metrics(config: StudyConfig) -> None:
    """Objectives, and all that refers to them or to other metrics by name."""
    objectives, weights = config.objectives, config.scenario.weights
    if not objectives:
        raise ConfigError("objectives is empty: name at least one, e.g. objectives=[qps,p99_latency_s]")
    if not any(weights.get(name, 0) > 0 for name in objectives):
        raise ConfigError(
            f"scenario.weights gives none of the objectives ({', '.join(objectives)}) a positive weight; "
            f"{closest(next(iter(weights), ''), objectives)}"
        )
    metrics = {**config.metrics, **objectives}
    for metric in metrics:
        check_name("name of a metric", metric)
    for metric in config.load.precision:
        if metric not in metrics:
            raise ConfigError(f"load.precision.{metric} is no metric of this study; {closest(metric, metrics)}")


def _check_warm_start(names: Any) -> None:
    if names != AUTO and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ConfigError(
            f"search.warm_start must be auto or a list of studies, got {names!r}: search.warm_start=[{names}]"
        )


def _check_load(config: StudyConfig) -> None:
    if config.load.iterations.measured:  # takes the place of all lengths
        return
    for short, long in _ORDERED:
        least, most = getattr(config.load, short), getattr(config.load, long)
        if most is not None and least > most:
            raise ConfigError(f"load.{short}={least:g} is more than load.{long}={most:g}: raise the second")


def _check_at(at: dict[str, Any], key: str = "at") -> None:
    for knob, value in at.items():
        if isinstance(value, list | dict):
            raise ConfigError(f"{key}.{knob} must be one value, got {value!r}: measure one configuration at a time")


def check_mix(mix: Any) -> None:
    """Refuse a mix of traffic that is no mapping from two studies or more to their shares.

    Raises:
        ConfigError: the rule, the value and the remedy.
    """
    if mix is None:
        return
    if not isinstance(mix, dict) or len(mix) < 2:
        raise ConfigError(
            f"mix must give the shares of two studies or more, got {mix!r}: mix='{{chat: 0.6, bulk: 0.4}}'"
        )
    for name, share in mix.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < math.inf:
            raise ConfigError(f"mix.{name} must be a positive share of the traffic, got {share!r}: leave the study out")


def _check_tables(tables: Tables) -> None:
    for knob in _KNOBS:
        values = getattr(tables, knob)
        if len(values) < 2:
            raise ConfigError(f"tables.{knob}={values} leaves nothing to compare: give at least two values")
        for value in values:
            if isinstance(value, list | dict):
                raise ConfigError(f"tables.{knob} must hold plain values, got {value!r} in {values}")


def _check_serve(serve: Serve) -> None:
    if serve.kv_low > serve.kv_high:
        raise ConfigError(
            f"serve.kv_low={serve.kv_low:g} is more than serve.kv_high={serve.kv_high:g}: lower the first"
        )
    if serve.answers_max > serve.answers_together:
        raise ConfigError(
            f"serve.answers_max={serve.answers_max} is more than serve.answers_together={serve.answers_together}: "
            "lower the first"
        )
    _check_canary(serve.canary)


def _check_canary(canary: Canary) -> None:
    _check_at(canary.at, "serve.canary.at")
    if not canary.enabled and canary != Canary():
        raise ConfigError(
            "serve.canary has settings but no candidate: name a row (serve.canary.row=runner-up) or what it changes in "
            "the row that is served (+serve.canary.at.batch_size=64)"
        )


def _check_margins(config: StudyConfig) -> None:
    for name in config.guard.margins:
        if name not in config.objectives:
            raise ConfigError(f"guard.margins.{name} is no objective of this study; {closest(name, config.objectives)}")


def _check_certify(certify: Certify) -> None:
    if not certify.stress_steps:
        raise ConfigError("certify.stress_steps is empty: give shares of the capacity, e.g. [0.5, 1.0]")


def _check_alerts(alerts: Alerts) -> None:
    for name in ("queue_s", "decode_s", "cpu", "capacity"):
        levels: Levels = getattr(alerts, name)
        if levels.warn > levels.critical:
            raise ConfigError(
                f"alerts.{name}.warn={levels.warn:g} is more than alerts.{name}.critical={levels.critical:g}: "
                "lower the first"
            )
    if alerts.cpu.critical >= 1:
        raise ConfigError(f"alerts.cpu.critical must be a share below 1, got {alerts.cpu.critical:g}")
    for name in ("window_s", "cpu_window_s"):
        if getattr(alerts, name) < 2 * alerts.scrape_s:
            raise ConfigError(
                f"alerts.{name} must hold at least two readings, got {getattr(alerts, name):g} s at "
                f"alerts.scrape_s={alerts.scrape_s:g}"
            )


def _check_scaling(config: StudyConfig) -> None:
    url = urlsplit(config.deploy.autoscale.prometheus_url)
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.password:
        raise ConfigError(
            "deploy.autoscale.prometheus_url must be http(s)://host:port without user and password, which the bundle's "
            "files would show: give KEDA a TriggerAuthentication instead"
        )
    share, warn = config.deploy.autoscale.load_share, config.alerts.capacity.warn
    if config.deploy.rate_per_s is not None and share * _TOLERANCE > warn:
        raise ConfigError(
            f"deploy.autoscale.load_share={share:g} must stay a tenth below alerts.capacity.warn={warn:g}, which an "
            "autoscaler otherwise raises in normal operation: lower the first"
        )


def _check_factors(config: StudyConfig) -> None:
    compared = [*config.instances, *([config.hardware.name] if config.hardware.hourly_usd is not None else [])]
    for name in config.price.factors:
        if name not in compared:
            raise ConfigError(f"price.factors.{name} is not among the compared hardware; {closest(name, compared)}")
