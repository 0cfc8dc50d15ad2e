"""Builds the parts of a study from a valid configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from objectives import Objective
from optimize.checkpoint import is_hub_id
from optimize.config.instantiate import build
from optimize.config.recipes import check_files
from optimize.config.schema import StudyConfig
from optimize.databases import check_sqlite
from optimize.decision.constraints import Limit, make_limits, read_bounds
from optimize.engine.adapters import flags_for
from optimize.engine.base import Launcher
from optimize.engine.flags import to_arguments
from optimize.engine.revisions import HubModel, adapters_in, drafts_of
from optimize.errors import setting_names
from optimize.files import check_writable
from optimize.ledger import study_folder
from optimize.load.arrivals import Arrivals
from optimize.load.fixed_length import by_iterations
from optimize.load.levels import without_auto
from optimize.load.scoring import check_scores, reference_of, signature_of
from optimize.load.service_level import check_capacity, check_objectives
from optimize.model.hub import fetch_hub_models
from optimize.model.sources import materialized
from optimize.plan.flags import check_quotable, engine_flags
from optimize.plan.launcher import check_launcher
from optimize.plan.metrics import check_random_weights, metrics_of
from optimize.plan.plan import Plan
from optimize.plan.requests import requests_of
from optimize.plan.signature import conditions_of, files_in_words, models_in_words, tasks_in_words
from optimize.redaction import hidden_flags
from optimize.search.space import make_space

_OPTUNA_TABLE, _MLFLOW_TABLE = "studies", "experiments"


def make_plan(config: StudyConfig) -> Plan:
    """Build all parts, those first whose mistakes are found soonest.

    Args:
        config: What `optimize.config.validate` finds no fault with.

    Raises:
        ConfigError: parts that do not fit together, or do not fit the files and the engine that they name.
    """
    folder = _study_folder(config)
    for uri, table in ((config.tracking.storage, _OPTUNA_TABLE), (config.tracking.uri, _MLFLOW_TABLE)):
        check_sqlite(uri, table)
    launcher: Launcher = build(config.engine, "engine")
    if not launcher.request_knobs_only:
        _fetch_adapters(config)
    model_flags = {**flags_for(config.model.lora), **config.model.flags}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, flags=model_flags))
    space = make_space(config.search_space, config.model, config.recipes, config.quantization, config.baseline)
    objectives, metrics = metrics_of(config)
    limits = make_limits(read_bounds(config.constraints), metrics)
    check_files([*config.recipes.values(), config.quantization])
    config = _with_weights(config, objectives, metrics, limits)
    arrivals: Arrivals = build(without_auto(config.load.arrivals), "load.arrivals")
    check_capacity(config, arrivals, space.widest_beam())
    check_objectives(config, arrivals, objectives, [metrics[limit.metric] for limit in limits])
    config = dataclasses.replace(config, load=by_iterations(config.load, arrivals))
    check_launcher(launcher, space, config, objectives)
    flags = engine_flags(config, space)
    arguments = to_arguments(hidden_flags(flags))
    check_quotable(config, space, arguments)
    workload, arrivals = requests_of(config, space, launcher, arrivals)
    if workload.conversations is not None:
        launcher.report_cached_tokens()
    bounded = [limit.metric for limit in limits]
    reference = reference_of(config, workload, [*objectives.values(), *(metrics[name] for name in bounded)])
    check_scores(workload, reference, objectives, metrics, bounded)
    signature, cache = conditions_of(config, launcher, arrivals, workload), Path(config.cache_dir)
    return Plan(
        config=config, space=space, objectives=objectives, metrics=metrics, limits=limits, launcher=launcher,
        arrivals=arrivals, workload=workload, folder=folder,
        signature={
            **signature, **signature_of(config, reference), **tasks_in_words(metrics, signature.get("asks", "")),
            **files_in_words(arguments, cache), **models_in_words("drafts", drafts_of(flags), cache),
            **models_in_words("adapters", adapters_in(flags), cache),
        },
        reference=reference,
    )  # fmt: skip


def _fetch_adapters(config: StudyConfig) -> None:
    """Have the hub's adapters on this disk, whose ranks the flags depend on."""
    for name, path in config.model.lora.items():
        with setting_names({"model.path=": f"model.lora.{name}="}):
            fetch_hub_models(config, [HubModel(path, None)] if is_hub_id(path) else [])


def _with_weights(
    config: StudyConfig, objectives: Mapping[str, Objective], metrics: Mapping[str, Objective], limits: Sequence[Limit]
) -> StudyConfig:
    """The configuration with its model on disk; one of random weights is refused where something scores its answers.

    Raises:
        ConfigError: an objective or a constraint scores answers that mean nothing, or the model cannot be made.
    """
    if config.model.random is not None:
        check_random_weights(config.model.name, objectives, metrics, limits)
    return dataclasses.replace(config, model=materialized(config.model, Path(config.cache_dir), print))


def _study_folder(config: StudyConfig) -> Path:
    folder = study_folder(config.output_dir, config.study.name)
    for key, path in (("output_dir", folder), ("cache_dir", Path(config.cache_dir))):
        check_writable(key, path)
    return folder
