"""The conditions that every figure of a study depends on, in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from objectives import Objective
from objectives.accuracy import Accuracy
from optimize.checkpoint import hub_name, snapshot_folder
from optimize.config.measuring import Load
from optimize.config.schema import StudyConfig
from optimize.engine.adapters import asked_in_words
from optimize.engine.base import Launcher
from optimize.engine.flag_files import fingerprint, named_files
from optimize.engine.revisions import HubModel
from optimize.errors import ConfigError
from optimize.hardware import gpu_settings, machine
from optimize.harness.process import describe
from optimize.load.arrivals import Arrivals
from optimize.load.service_level import load_in_words
from optimize.model.hashes import model_hash
from optimize.redaction import redact_all
from optimize.workload.workload import Workload


def conditions_of(config: StudyConfig, launcher: Launcher, arrivals: Arrivals, workload: Workload) -> dict[str, str]:
    """The machine, engine, model, workload and load, and the seed, without secrets."""
    flags = {**(config.engine.get("flags") or {}), **config.model.flags}
    models = "" if launcher.request_knobs_only else asked_in_words(flags, config.engine.get("model"))
    settings = "" if launcher.request_knobs_only else gpu_settings()
    source = config.model.source or ("" if launcher.request_knobs_only else hub_name(config.model.path))
    signature = {
        "machine": machine(),
        **({"gpu": settings} if settings else {}),
        "engine": launcher.version(),
        "model": f"{config.model.name} {model_hash(config.model.path, Path(config.cache_dir))}",
        **({"source": source} if source else {}),
        "workload": f"{workload.name} {workload.hash}",
        "load": f"{load_in_words(config, arrivals)}; {_lengths(config.load)}",
        "seed": str(config.study.seed),
        **({"asks": models} if models else {}),
    }
    return redact_all(signature)


def files_in_words(arguments: Sequence[str], cache: Path) -> dict[str, str]:
    """The files that flags name, with their contents' hashes, as JSON; nothing where none is named."""
    names = sorted(named_files(arguments))
    hashes = {name: model_hash(name, cache) if Path(name).is_dir() else fingerprint(name) for name in names}
    return {"files": json.dumps(hashes, ensure_ascii=False)} if names else {}


def models_in_words(name: str, models: Iterable[HubModel], cache: Path) -> dict[str, str]:
    """Models of the hub by their commits, with their contents' hashes; nothing where there is none.

    Args:
        name: Of the signature's part: drafts or adapters.
        models: The models; one that is not on this disk stands by its revision, and has no hash.
        cache: Root of the cache.
    """
    words = set()
    for model in models:
        folder = snapshot_folder(*model)
        contents = f"{folder.name} {model_hash(str(folder), cache)}" if folder else model.revision or "main"
        words.add(f"{model.model}@{contents}")
    return {name: "; ".join(sorted(words))} if words else {}


def tasks_in_words(metrics: Mapping[str, Objective], models: str) -> dict[str, str]:
    """The tasks with known answers, which are loaded to see that they can be; nothing where none is named."""
    tasks = {name: describe(metric, name) for name, metric in metrics.items() if isinstance(metric, Accuracy)}
    if tasks and "," in models:
        raise ConfigError(
            f"{next(iter(tasks))} asks for one model, and requests ask for {models} in turn: choose one by engine.model"
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
