"""The two sides: the row as it is, and the same row with what the release changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objectives import Estimate
from optimize.config.compose import configuration
from optimize.config.guard import STORED, ReleaseGuard
from optimize.config.recipes import check_readable
from optimize.config.schema import StudyConfig
from optimize.engine.base import TrialConfig
from optimize.engine.installation import installation
from optimize.errors import ConfigError, setting_names
from optimize.evaluation.answers import Answers, answers_key
from optimize.evaluation.auto_level import LEVEL, at, is_auto
from optimize.ledger import Ledger, study_folder
from optimize.model.hub import fetch_models
from optimize.plan import Plan
from optimize.redaction import hidden_flags, masked, redact_all
from optimize.study.rows import runnable_row
from optimize.study.signatures import differences
from optimize.study.target import Say, Target, choose

ROW, OTHER = "row", "other side"
_PYTHON, _ENV, _FLAGS = "python", "env", "flags"
_SAME = ("workload", "load", "seed", "quality")
"""Parts of the signature that both sides share: what is asked of them, and how answers are scored."""


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        name: ROW or OTHER.
        plan: Its plan, which has a launcher of its own.
        target: Its configuration.
    """

    name: str
    plan: Plan
    target: Target

    @property
    def point(self) -> TrialConfig:
        return self.target.config

    def at_level(self, signature: Mapping[str, str]) -> Side:
        """The side under the load that a signature names, where its own load has no level yet."""
        if not is_auto(self.plan) or LEVEL not in signature:
            return self
        level = float(signature[LEVEL].split()[0])
        return dataclasses.replace(self, plan=at(self.plan, level))


@dataclass(frozen=True)
class Stored:
    """What a study has stored of its row.

    Attributes:
        estimates: Metric -> figure, with the interval that a further measurement falls in.
        signature: What the figures depend on.
        answers: Workload row -> answer.
    """

    estimates: Mapping[str, Estimate]
    signature: Mapping[str, str]
    answers: Mapping[int, str] = field(default_factory=dict)


def sides_of(config: StudyConfig, words: Sequence[str], name: str, say: Say) -> tuple[Side, Side]:
    """Both sides.

    Args:
        config: The configuration of the row's side.
        words: The command line that it was composed of.
        name: Name of the plans.
        say: Receives messages about checkpoints that are being made.

    Raises:
        ConfigError: no such row, a release that cannot be started, or sides that are not asked the same.
    """
    settings = config.guard
    if settings.against == STORED and config.at:
        raise ConfigError("guard.against=stored needs a row that a study has measured: leave out at, or name its row")
    _check_engine(config)
    _check_python(config)
    row = Side(ROW, *choose(config, name, say))
    with setting_names({f"engine.env.{variable}": f"guard.env.{variable}" for variable in settings.env}):
        other = Side(OTHER, *choose(_other_config(config, words), name, say))
    other = dataclasses.replace(other, plan=_with_own_cache(other.plan), target=_changed(other, settings))
    _check_same(row.plan, other.plan)
    return row, other


def stored_of(config: StudyConfig, row: Side) -> Stored:
    """The row's stored figures and answers.

    Raises:
        ConfigError: the study has none.
    """
    measured = runnable_row(config).row
    ledger = Ledger(study_folder(config.output_dir, config.study.name))
    estimates = measured.recommendation.pick.estimates
    return Stored(estimates, measured.signature, Answers(ledger).of(answers_key(row.point)))


def _with_own_cache(plan: Plan) -> Plan:
    """The plan, with scores by its own engines: a cache knows nothing of drivers and libraries."""
    config = dataclasses.replace(plan.config, cache_dir=str(plan.folder / "cache"))
    return dataclasses.replace(plan, config=config)


def _check_engine(config: StudyConfig) -> None:
    """Refuse changes of an engine that this project does not start."""
    settings = config.guard
    changes = {"model": settings.model, "flags": settings.flags, "env": settings.env}
    if (names := [f"guard.{name}" for name, value in changes.items() if value]) and _FLAGS not in config.engine:
        raise ConfigError(
            f"{names[0]} changes an engine, and engine=remote starts none: name the other endpoint, "
            """'guard.overrides=["engine.base_url=..."]'"""
        )


def _check_python(config: StudyConfig) -> None:
    python, engine = config.guard.python, config.engine
    if python is None:
        return
    if _PYTHON not in engine:
        raise ConfigError("guard.python runs vLLM's own servers: choose engine=vllm")
    if any(word.lstrip("+").startswith("engine.python=") for word in config.guard.overrides):
        raise ConfigError("guard.python and engine.python in guard.overrides name the same: give one of them")
    installation(python, "guard.python")


def _other_config(config: StudyConfig, words: Sequence[str]) -> StudyConfig:
    """The configuration of the other side, but for what is changed once its row is resolved."""
    settings = config.guard
    if settings.overrides:
        own = [word for word in words if not word.lstrip("+~").startswith("guard.")]
        config = dataclasses.replace(configuration([*own, *settings.overrides]), guard=settings)
    changes: dict[str, Any] = {} if settings.python is None else {_PYTHON: settings.python}
    if settings.env:  # of the launcher, which keeps secrets among them out of all records
        changes[_ENV] = {**(config.engine.get(_ENV) or {}), **settings.env}
    return dataclasses.replace(config, engine={**config.engine, **changes}) if changes else config


def _changed(side: Side, settings: ReleaseGuard) -> Target:
    """The side's configuration with the checkpoint and the flags of the release, and no knob in a variable's way."""
    plan, engine = side.plan, side.point.engine
    if settings.flags:
        _check_flags(plan, settings.flags)
    changed = dataclasses.replace(
        engine,
        checkpoint=engine.checkpoint if settings.model is None else _checkpoint(settings.model, plan),
        flags=tuple({**dict(engine.flags), **settings.flags}.items()),
        env=tuple((name, value) for name, value in engine.env if name not in settings.env),
    )
    return dataclasses.replace(side.target, config=dataclasses.replace(side.point, engine=changed))


def _check_flags(plan: Plan, flags: Mapping[str, Any]) -> None:
    try:
        plan.launcher.preflight(list(flags))
    except ConfigError as error:
        raise ConfigError(f"guard.flags: {error}") from error


def _checkpoint(model: str, plan: Plan) -> str:
    folder = Path(model).expanduser()
    if not folder.is_dir() and model.count("/") != 1:
        raise ConfigError(f"guard.model={model} is neither a folder nor a Hugging Face id: correct it")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ConfigError(f"guard.model={model} holds no config.json: give the folder of a Hugging Face model")
    with setting_names({"model.path=": "guard.model="}):
        check_readable([str(folder) if folder.is_dir() else model])
        if folder.is_dir():
            return str(folder)
        fetch_models(plan.config, [model])
    return model


def _check_same(row: Plan, other: Plan) -> None:
    signed = [(ROW, row.signature), (OTHER, other.signature)]
    if lines := differences(signed, _SAME):
        raise ConfigError(
            f"guard.overrides changes what is asked of the engines ({' | '.join(lines)}): both sides must be asked the "
            "same, change engine, model or row"
        )


def changes_between(row: Side, other: Side, settings: ReleaseGuard) -> list[str]:
    """In what the sides differ, in words; empty where they are the same."""
    before, after = _shown(row), _shown(other)
    names = list(dict.fromkeys([*before, *after]))
    lines = differences([(ROW, row.plan.signature), (OTHER, other.plan.signature)])
    lines += [
        f"{name}: {before.get(name, 'not set')} ({ROW}); {after.get(name, 'not set')} ({OTHER})"
        for name in names
        if before.get(name) != after.get(name)
    ]
    request = [str(redact_all(dataclasses.asdict(side.point.request))) for side in (row, other)]
    lines += [f"request: {request[0]} ({ROW}); {request[1]} ({OTHER})"] if request[0] != request[1] else []
    return [*lines, *(f"{word} ({OTHER})" for word in redact_all(list(settings.overrides)))]


def _shown(side: Side) -> dict[str, Any]:
    """Name -> setting of a side's engines, the names of secrets in the place of their values."""
    engine = side.point.engine
    variables = {**(side.plan.config.engine.get(_ENV) or {}), **dict(engine.env)}
    flags = {f"flag {name}": value for name, value in hidden_flags(engine.flags)}
    shown: dict[str, Any] = redact_all({"checkpoint": engine.checkpoint, **flags, **masked(variables)})
    return shown
