"""Rows of the matrix: the recommendation of each study, and the row that a command requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives import Direction
from optimize.checkpoint import folder_on_disk
from optimize.config.schema import StudyConfig
from optimize.databases import check_sqlite
from optimize.decision.recommendation import Candidate, Recommendation
from optimize.errors import ConfigError, closest
from optimize.model.hashes import model_hash
from optimize.model.hub import follow
from optimize.model.sources import materialized
from optimize.redaction import redacted
from optimize.study.confirmation import recommendation
from optimize.study.info import info_of
from optimize.study.lifecycle import stored_studies
from optimize.study.signatures import differences, warning
from optimize.study.trial_attributes import CONFIRMS
from optimize.study.trials import budget_trials, candidates, complete_trials, trial_of
from optimize.study.trust import check_trusted

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Row:
    """The recommendation of one study.

    Attributes:
        scenario: Scenario name.
        title: Scenario for people.
        study: Study name.
        recommendation: The recommendation.
        objectives: Objective -> direction, in the study's order.
        config: What was run: checkpoint, flags, request, deploy command.
        signature: What the figures depend on besides the configuration.
        date: UTC date of the measurement.
    """

    scenario: str
    title: str
    study: str
    recommendation: Recommendation
    objectives: Mapping[str, Direction]
    config: Mapping[str, Any]
    signature: Mapping[str, str]
    date: str

    def to_dict(self) -> dict[str, Any]:
        recommendation = self.recommendation
        pick, runner_up = recommendation.pick, recommendation.runner_up
        return {
            "scenario": self.scenario,
            "title": self.title,
            "study": self.study,
            "trial": pick.number,
            "params": dict(pick.params),
            "settings": pick.settings,
            "estimates": {n: e.to_dict() for n, e in pick.estimates.items()},
            "gains_over_vllm_defaults": {n: e.to_dict() for n, e in recommendation.gains.items()},
            "score": recommendation.score.to_dict(),
            "better_than_defaults": recommendation.decisive,
            "runner_up": None if runner_up is None else {"trial": runner_up.number, "params": dict(runner_up.params)},
            "runner_up_tied": recommendation.tied,
            "rounds": recommendation.rounds,
            "first_reading": {n: e.to_dict() for n, e in pick.first.items()},
            "config": dict(self.config),
            "signature": dict(self.signature),
            "date": self.date,
        }


@dataclass(frozen=True)
class StudyRow:
    """A row and its place in its study.

    Attributes:
        row: The row; its `recommendation.pick` is the requested candidate.
        model: Name of the model it was measured with.
        hardware: Name of the hardware it was measured on (`conf/hardware/`); empty where that was not recorded.
        recommended: Whether it is the study's recommendation.
    """

    row: Row
    model: str
    hardware: str
    recommended: bool

    @property
    def candidate(self) -> Candidate:
        return self.row.recommendation.pick


def requested_row(config: StudyConfig) -> StudyRow:
    """The row that `study.name` and `row` of the configuration name.

    Raises:
        ConfigError: no such study or trial, a study of another model, or nothing to recommend.
    """
    study = stored_study(config)
    info = info_of(study)
    if info.model != config.model.name:
        raise ConfigError(
            f"study {study.study_name!r} was measured with model {info.model}, not {config.model.name}: take "
            f"model={info.model}, or the study.name of a study with yours"
        )
    best = recommendation(study)
    if best is None:
        raise ConfigError(f"study {study.study_name!r} has no row yet that keeps every constraint: run more trials")
    recommended = best.pick.number
    number = pick(config.row, best, candidates(study), study.study_name).number
    row = row_of(study, best if number == recommended else with_pick(best, study, number))
    _check_model(row, info.model, config)
    return StudyRow(row, info.model, info.hardware, number == recommended)


def _check_model(row: Row, name: str, config: StudyConfig) -> None:
    """Refuse a model that is not the one of a row; of one that is not on this disk there is only its id to compare."""
    model, cache = materialized(config.model, Path(config.cache_dir), print).path, Path(config.cache_dir)
    follow(config)
    measured, here = row.signature["model"], f"{name} {model_hash(model, cache)}"
    is_same_id = row.signature.get("source", "").partition("@")[0] == model and folder_on_disk(model) is None
    if measured != here and not is_same_id:
        raise ConfigError(
            f"study {config.study.name!r} was measured with model {measured}, and model.path={model} is "
            f"{here}: give the model it belongs to"
        )


def runnable_row(config: StudyConfig) -> StudyRow:
    """The row that `study.name` and `row` name, to run an engine with its settings.

    Raises:
        ConfigError: as `requested_row`; the study came from an archive that is not trusted.
    """
    check_trusted(stored_study(config), config)
    return requested_row(config)


def stored_study(config: StudyConfig) -> optuna.Study:
    """The study that `study.name` names.

    Raises:
        ConfigError: there is none.
    """
    check_sqlite(config.tracking.storage, "studies")
    by_name = {study.study_name: study for study in stored_studies(config.tracking.storage)}
    if config.study.name not in by_name:
        raise ConfigError(
            f"{redacted(config.tracking.storage)} holds no study {config.study.name!r}: run it first, e.g. "
            f"python -m optimize +study=chat; {closest(config.study.name, by_name)}"
        )
    return by_name[config.study.name]


def pick(row: str, best: Recommendation, measured: Sequence[Candidate], study: str) -> Candidate:
    """The candidate that `row` names.

    Args:
        row: "recommended", "runner-up", "baseline" or a trial's number.
        best: The study's recommendation.
        measured: All candidates that it measured.
        study: Name of the study.

    Raises:
        ConfigError: there is none.
    """
    baseline = next((c for c in measured if c.baseline), None)
    named = {"recommended": best.pick, "runner-up": best.runner_up, "baseline": baseline}
    candidate = named.get(row) or next((c for c in measured if str(c.number) == row), None)
    if candidate is None:
        numbers = ", ".join(str(c.number) for c in measured)
        raise ConfigError(
            f"row={row} is no row of study {study!r}: recommended, runner-up (if there is one), baseline, or a "
            f"measured trial ({numbers})"
        )
    return candidate


def with_pick(best: Recommendation, study: optuna.Study, number: int) -> Recommendation:
    """The recommendation with another measured trial as its pick, with its confirmed figures where there are any."""
    confirmed = {c.number: c for c in best.considered}
    candidate = confirmed.get(number) or next(c for c in candidates(study) if c.number == number)
    return replace(
        best, pick=candidate, gains={}, score=best.scores.get(number, best.score), runner_up=None, tied=False,
        rounds=best.rounds if number in confirmed else 0,
    )  # fmt: skip


def signature_warning(study: optuna.Study) -> str:
    """A warning where trials of one study have different signatures; else empty."""
    trials = [t for t in complete_trials(study) if not t.user_attrs.get("imputed")]
    signed = [(f"trial {t.number}", t.user_attrs["signature"]) for t in trials]
    return warning(differences(signed), "gains and ranks across them prove little; study.fresh=true measures anew")


def row_of(study: optuna.Study, best: Recommendation) -> Row:
    info, trial = info_of(study), _last_measured(study, best.pick.number)
    measured_at = trial.datetime_complete or datetime.now()
    return Row(
        scenario=info.scenario.name,
        title=info.scenario.title,
        study=study.study_name,
        recommendation=best,
        objectives=info.directions,
        config=trial.user_attrs["config"],
        signature=trial.user_attrs["signature"],
        date=f"{measured_at.astimezone(UTC):%Y-%m-%d}",
    )


def _last_measured(study: optuna.Study, number: int) -> FrozenTrial:
    """The last measurement of a trial's settings: of its confirmation, where there is one."""
    trials = [t for t in complete_trials(study) if t.user_attrs.get(CONFIRMS) == number and not t.user_attrs["imputed"]]
    return trials[-1] if trials else trial_of(study, number)


def matrix_rows(studies: Sequence[optuna.Study]) -> list[Row]:
    """One row per scenario and model, of the study with most candidates; of equals the latest."""
    rows: dict[tuple[str, str], Row] = {}
    for study in sorted(studies, key=lambda s: (len(candidates(s)), _ended_at(s))):
        best = recommendation(study)
        if best is not None:
            info = info_of(study)
            rows[info.scenario.name, info.model] = row_of(study, best)
    return list(rows.values())


def _ended_at(study: optuna.Study) -> float:
    return max((t.datetime_complete.timestamp() for t in budget_trials(study) if t.datetime_complete), default=0.0)
