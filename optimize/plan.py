"""From a valid configuration to the parts of a study."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from objectives import Objective
from objectives.accuracy import Accuracy
from optimize.config.grammar import one_line, variable
from optimize.config.instantiate import build
from optimize.config.measuring import ALL, WORKLOAD, Load
from optimize.config.recipes import check_files, check_on_cuda, check_readable, check_unquantized
from optimize.config.schema import StudyConfig
from optimize.databases import check_sqlite
from optimize.decision.constraints import Limit, make_limits, read_bounds
from optimize.engine.adapters import asked_in_words, check_adapters, flags_for
from optimize.engine.base import Launcher
from optimize.engine.flag_files import fingerprint, named_files
from optimize.engine.flags import to_arguments
from optimize.engine.remote import RemoteLauncher
from optimize.engine.variables import check_variables
from optimize.errors import ConfigError
from optimize.files import check_writable
from optimize.hardware import gpu_settings, machine
from optimize.harness.process import check_harness, describe
from optimize.ledger import study_folder
from optimize.load.arrivals import Arrivals, ClosedLoop, Trace
from optimize.load.fixed_length import by_iterations
from optimize.load.levels import auto_setting, without_auto
from optimize.load.refused_rows import without_refused
from optimize.load.scoring import check_scores, reference_of, signature_of
from optimize.load.service_level import check_capacity, check_objectives, load_in_words
from optimize.model.hashes import model_hash
from optimize.model.hub import fetch_models
from optimize.model.sources import materialized
from optimize.redaction import hidden_flags, is_secret, masked, redact_all
from optimize.search import variables
from optimize.search.space import SearchSpace, flag_of, is_request_knob, make_space
from optimize.traces.requests import Requests
from optimize.workload.context import Context, context_of
from optimize.workload.fitting import fitted_workload
from optimize.workload.workload import Workload

_CONTEXT_FLAG, _CUDA_BUILD = "max_model_len", "vllm "
_OPTUNA_TABLE, _MLFLOW_TABLE = "studies", "experiments"
_FIXED = ("workload", "load", "model", "engine", "seed", "files", "tasks", "quality", "asks")
"""Parts of the signature that must stay the same between the sessions of a study."""


@dataclass(frozen=True)
class Plan:
    """The parts of a study.

    Attributes:
        config: The configuration that they were built from.
        space: The search space.
        objectives: Objective name -> its estimator, in the order of Optuna's values.
        metrics: Metric name -> its estimator, the objectives included.
        limits: The constraints.
        launcher: Starts engines.
        arrivals: When requests are due.
        workload: Prompts and references.
        folder: The folder of the study's files.
        signature: The conditions that every figure of this study depends on.
        reference: What answers are scored against: WORKLOAD or BASELINE, see `optimize.config.measuring.Quality`.
    """

    config: StudyConfig
    space: SearchSpace
    objectives: Mapping[str, Objective]
    metrics: Mapping[str, Objective]
    limits: list[Limit]
    launcher: Launcher
    arrivals: Arrivals
    workload: Workload
    folder: Path
    signature: Mapping[str, str]
    reference: str = WORKLOAD

    @property
    def users(self) -> int | None:
        """Users of a closed loop that are the same in all trials; None of other loads."""
        varies = self.config.load.capacity.search or auto_setting(self.config.load.arrivals)
        return self.arrivals.users if isinstance(self.arrivals, ClosedLoop) and not varies else None

    def engine_settings(self) -> str:
        """Hash of the settings that all engines of this study share and on which it depends whether one starts."""
        hardware = self.config.hardware  # the price has no influence on an engine
        engine = {name: value for name, value in self.config.engine.items() if name != "model"}
        settings = masked([engine, {"name": hardware.name, "env": hardware.env}])  # whatever their secrets
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def fingerprint(self) -> dict[str, Any]:
        """Key -> value of all settings that must stay the same between the sessions of a study."""
        settings = {
            **{f"search_space.{k}": v for k, v in self.space.fingerprint().items()},
            **{f"objectives.{k}": json.dumps(n, sort_keys=True) for k, n in masked(self.config.objectives).items()},
            **{f"constraints.{limit.name}": "set" for limit in self.limits},
            **{k: v for k, v in self.signature.items() if k in _FIXED},
        }
        return redact_all(settings)


def content_of(plan: Plan, checkpoint: str) -> str:
    """Hash of a checkpoint's files, with the files that flags name and the adapters that requests ask for: what an
    engine's answers rest on.
    """
    parts = [plan.signature.get(key, "") for key in ("files", "asks")]
    return "".join([model_hash(checkpoint, Path(plan.config.cache_dir)), *parts])


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
    model_flags = {**flags_for(config.model.lora), **config.model.flags}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, flags=model_flags))
    space = make_space(config.search_space, config.model, config.recipes, config.quantization, config.baseline)
    objectives, metrics = _metrics(config)
    limits = make_limits(read_bounds(config.constraints), metrics)
    check_files([*config.recipes.values(), config.quantization])
    config = _with_weights(config, objectives, metrics, limits)
    arrivals: Arrivals = build(without_auto(config.load.arrivals), "load.arrivals")
    check_capacity(config, arrivals, space.widest_beam())
    check_objectives(config, arrivals, objectives, [metrics[limit.metric] for limit in limits])
    config = dataclasses.replace(config, load=by_iterations(config.load, arrivals))
    launcher: Launcher = build(config.engine, "engine")
    _check_launcher(launcher, space, config, objectives)
    arguments = to_arguments(hidden_flags(_flags(config, space)))
    _check_quotable(config, space, arguments)
    recorded = _recorded(config, arrivals)
    fitted = fitted_workload(config, _context(config, space, launcher), recorded, launcher.request_knobs_only)
    workload, rows = fitted.workload, fitted.kept
    if isinstance(launcher, RemoteLauncher) and workload.conversations is None:  # whose turns end by themselves
        workload, served = without_refused(workload, launcher.endpoint(), config.workload)
        if served is not None:
            rows = np.array(served) if rows is None else rows[served]
    if isinstance(arrivals, Trace):
        workload = dataclasses.replace(workload, notes=[arrivals.note, *workload.notes])
        arrivals = arrivals if recorded is None or rows is None else arrivals.only(rows)
    if workload.conversations is not None:
        launcher.report_cached_tokens()
    if config.model.random is not None:  # without references, nothing scores the meaningless answers
        workload = dataclasses.replace(workload, references=[])
    bounded = [limit.metric for limit in limits]
    reference = reference_of(config, workload, [*objectives.values(), *(metrics[name] for name in bounded)])
    check_scores(workload, reference, objectives, metrics, bounded)
    signature = _signature(config, launcher, arrivals, workload)
    return Plan(
        config=config, space=space, objectives=objectives, metrics=metrics, limits=limits, launcher=launcher,
        arrivals=arrivals, workload=workload, folder=folder,
        signature={
            **signature, **signature_of(config, reference), **_files(arguments, Path(config.cache_dir)),
            **_tasks(metrics, signature.get("asks", "")),
        },
        reference=reference,
    )  # fmt: skip


def _recorded(config: StudyConfig, arrivals: Arrivals) -> Requests | None:
    """What a trace says of its requests; of conversations sent turn by turn it says only when they arrive."""
    if not isinstance(arrivals, Trace) or config.workload.turns == ALL:
        return None
    return arrivals.requests if arrivals.has_contents else None


def _with_weights(
    config: StudyConfig, objectives: Mapping[str, Objective], metrics: Mapping[str, Objective], limits: Sequence[Limit]
) -> StudyConfig:
    """The configuration with its model on disk; one of random weights is refused where something scores its answers.

    Raises:
        ConfigError: an objective or a constraint scores answers that mean nothing, or the model cannot be made.
    """
    if config.model.random is not None:
        _refuse_scores(config.model.name, objectives, metrics, limits)
    return dataclasses.replace(config, model=materialized(config.model, Path(config.cache_dir), print))


def _refuse_scores(
    model: str, objectives: Mapping[str, Objective], metrics: Mapping[str, Objective], limits: Sequence[Limit]
) -> None:
    why = f"model {model} has random weights, and its answers mean nothing"
    for name, objective in objectives.items():
        if objective.same_sample:
            others = ",".join(n for n, o in objectives.items() if not o.same_sample)
            raise ConfigError(f"objectives.{name}: {why}: name the other objectives, objectives=[{others}]")
    for limit in limits:
        if metrics[limit.metric].same_sample:
            raise ConfigError(f"constraints.{limit.metric}: {why}: remove it, constraints.{limit.metric}=null")


def _study_folder(config: StudyConfig) -> Path:
    folder = study_folder(config.output_dir, config.study.name)
    for key, path in (("output_dir", folder), ("cache_dir", Path(config.cache_dir))):
        check_writable(key, path)
    return folder


def _metrics(config: StudyConfig) -> tuple[dict[str, Objective], dict[str, Objective]]:
    objectives = {name: _objective(name, node, "objectives") for name, node in config.objectives.items()}
    others = {name: _objective(name, node, "metrics") for name, node in config.metrics.items()}
    return objectives, {**objectives, **{name: m for name, m in others.items() if name not in objectives}}


def _objective(name: str, node: object, where: str) -> Objective:
    objective = build(node, f"{where}.{name}")
    if not isinstance(objective, Objective):
        raise ConfigError(f"{where}.{name} must be an objectives.Objective, got {type(objective).__name__}")
    if isinstance(objective, Accuracy):
        check_harness(f"{where}.{name}")
    return objective


def _check_launcher(
    launcher: Launcher, space: SearchSpace, config: StudyConfig, objectives: Mapping[str, Objective]
) -> None:
    searched = [f"{variables.PREFIX}{name}" for name in space.variables]
    launcher.preflight([*space.engine_flags, *(searched if launcher.request_knobs_only else [])])
    if launcher.request_knobs_only:
        if "quantization" in space.distributions:
            raise ConfigError("engine=remote cannot change quantization: choose space=request")
        if config.model.lora:
            raise ConfigError(
                "engine=remote serves its own adapters: name one by engine.model, and leave out model.lora"
            )
        if "memory_bytes" in objectives:
            raise ConfigError(
                "engine=remote cannot measure memory_bytes: name the other objectives, "
                "e.g. objectives=[qps,p99_latency_s,bleu]"
            )
        return
    check_variables(config.engine.get("env") or {}, space.variables)
    model = config.model.path
    check_readable([model, *(recipe.checkpoint for recipe in space.recipes_needed() if recipe.checkpoint)])
    looks_local = model.startswith((".", "/", "~")) or model.count("/") != 1 or Path(model.split("/")[0]).exists()
    if not Path(model).is_dir() and looks_local:
        raise ConfigError(f"model.path={model} is neither a folder nor a Hugging Face id: correct model.path")
    fetch_models(config, [recipe.checkpoint for recipe in space.recipes_needed() if recipe.checkpoint])
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise ConfigError(f"model.path={model} holds no config.json: give the folder of a Hugging Face model")
    check_unquantized(model, space.recipes_needed())
    if launcher.version().startswith(_CUDA_BUILD):
        check_on_cuda(space.recipes_needed())
    check_adapters({**(config.engine.get("flags") or {}), **config.model.flags}, model)


def _signature(config: StudyConfig, launcher: Launcher, arrivals: Arrivals, workload: Workload) -> dict[str, str]:
    flags = {**(config.engine.get("flags") or {}), **config.model.flags}
    asked = "" if launcher.request_knobs_only else asked_in_words(flags, config.engine.get("model"))
    settings = "" if launcher.request_knobs_only else gpu_settings()
    signature = {
        "machine": machine(),
        **({"gpu": settings} if settings else {}),
        "engine": launcher.version(),
        "model": f"{config.model.name} {model_hash(config.model.path, Path(config.cache_dir))}",
        **({"source": config.model.source} if config.model.source else {}),
        "workload": f"{workload.name} {workload.hash}",
        "load": f"{load_in_words(config, arrivals)}; {_lengths(config.load)}",
        "seed": str(config.study.seed),
        **({"asks": asked} if asked else {}),
    }
    return redact_all(signature)


def _flags(config: StudyConfig, space: SearchSpace) -> list[tuple[str, Any]]:
    """All flags with all values that an engine of the study may be given."""
    fixed = [config.engine.get("flags") or {}, config.model.flags, *(r.flags for r in space.recipes_needed())]
    flags = [knob for knob in space.distributions if not is_request_knob(knob) and not variables.is_variable(knob)]
    knobs = {knob: getattr(space.distributions[knob], "choices", ()) for knob in flags}
    return [pair for flags in fixed for pair in flags.items()] + [
        (flag_of(knob), choice) for knob, choices in knobs.items() for choice in choices
    ]


def _context(config: StudyConfig, space: SearchSpace, launcher: Launcher) -> Context | None:
    """The tokens that every engine of the study takes in one request; None where they are not known."""
    if launcher.request_knobs_only:
        return None
    knobs = {knob: domain for knob, domain in space.distributions.items() if not is_request_knob(knob)}
    ranges = [getattr(domain, "low", None) for knob, domain in knobs.items() if flag_of(knob) == _CONTEXT_FLAG]
    lengths = [value for name, value in _flags(config, space) if name.replace("-", "_") == _CONTEXT_FLAG]
    return context_of(config.model.path, [*lengths, *ranges])


def _check_quotable(config: StudyConfig, space: SearchSpace, arguments: Sequence[str]) -> None:
    """Refuse now what the files of a deployment could not hold once the study has ended."""
    for text in (config.model.name, config.model.path, *arguments):
        one_line(text)
    for name, value in {**config.hardware.env, **(config.engine.get("env") or {})}.items():
        variable(name)
        if not is_secret(name, value):  # files name secrets, and hold none
            one_line(value)
    for name in space.variables:
        for choice in getattr(space.distributions[f"{variables.PREFIX}{name}"], "choices", ()):
            one_line(choice)


def _files(arguments: Sequence[str], cache: Path) -> dict[str, str]:
    """The files that flags name, with their contents' hashes, as JSON; nothing where none is named."""
    names = sorted(named_files(arguments))
    hashes = {name: model_hash(name, cache) if Path(name).is_dir() else fingerprint(name) for name in names}
    return {"files": json.dumps(hashes, ensure_ascii=False)} if names else {}


def _tasks(metrics: Mapping[str, Objective], asked: str) -> dict[str, str]:
    """The tasks with known answers, which are loaded to see that they can be; nothing where none is named."""
    tasks = {name: describe(metric, name) for name, metric in metrics.items() if isinstance(metric, Accuracy)}
    if tasks and "," in asked:
        raise ConfigError(
            f"{next(iter(tasks))} asks for one model, and requests ask for {asked} in turn: choose one by engine.model"
        )
    return {"tasks": "; ".join(dict.fromkeys(tasks.values()))} if tasks else {}


def _lengths(load: Load) -> str:
    """The lengths of the load in words; the number of clients and the guard have no influence on a figure."""
    ignored = {"clients", "clients_max", "quiet_wait_s"}
    ignored |= {"warmup_settle_s"} if load.warmup_max_s is not None else set()  # the bounds take their place
    ignored |= {"window_precise_s"} if load.window_max_s is not None else set()
    ignored |= set() if load.honour_retry_after else {"honour_retry_after"}  # studies from before it was a setting
    lengths = {k: f"{v:g}" for k, v in asdict(load).items() if isinstance(v, float | int) and k not in ignored}
    if load.iterations.measured:
        lengths["iterations"] = f"{load.iterations.warmup}+{load.iterations.measured}"
    precision = " ".join(f"{metric}:{width:g}" for metric, width in sorted(load.precision.items()))
    return ", ".join(f"{k}={v}" for k, v in {**lengths, "precision": precision or "none"}.items())
