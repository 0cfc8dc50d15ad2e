"""One measured row of a study: what is deployed, priced, served and certified."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optimize.checkpoint import content_hash
from optimize.confirm import recommendation
from optimize.errors import ConfigError, closest
from optimize.outputs import check_sqlite
from optimize.report.conclude import row_of
from optimize.report.matrix import Row
from optimize.schema import StudyConfig
from optimize.study import stored_studies
from optimize.trials import candidates

if TYPE_CHECKING:
    import optuna

    from optimize.recommend import Candidate, Recommendation


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A row, and how it stands in its study.

    Attributes:
        row: The row; its `found.pick` is the candidate chosen.
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
        return self.row.found.pick


def chosen_row(config: StudyConfig) -> Chosen:
    """The row that `study.name` and `row` name.

    Raises:
        ConfigError: no such study or trial, one that was measured with another model, or nothing to recommend.
    """
    study = _study(config)
    model = str(study.user_attrs["about"]["model"])
    if model != config.model.name:
        raise ConfigError(
            f"study {study.study_name!r} was measured with model {model}, not {config.model.name}: take model={model}, "
            "or the study.name of a study with yours"
        )
    found = recommendation(study)
    if found is None:
        raise ConfigError(f"study {study.study_name!r} has no row yet that keeps every constraint: run more trials")
    recommended = found.pick.number
    number = pick(config.row, found, candidates(study), study.study_name).number
    row = row_of(study, found if number == recommended else _instead(found, study, number))
    measured, here = row.signature["model"], f"{model} {content_hash(config.model.path)}"
    if measured != here:
        raise ConfigError(
            f"study {study.study_name!r} was measured with model {measured}, and model.path={config.model.path} is "
            f"{here}: give the model it belongs to"
        )
    return Chosen(row, model, str(study.user_attrs["about"].get("hardware", "")), number == recommended)


def _study(config: StudyConfig) -> optuna.Study:
    check_sqlite(config.tracking.storage, "studies")
    by_name = {study.study_name: study for study in stored_studies(config.tracking.storage)}
    if config.study.name not in by_name:
        raise ConfigError(
            f"{config.tracking.storage} holds no study {config.study.name!r}: run it first, e.g. scripts/optimize "
            f"+study=chat; {closest(config.study.name, by_name)}"
        )
    return by_name[config.study.name]


def pick(row: str, found: Recommendation, measured: Sequence[Candidate], study: str) -> Candidate:
    """The candidate that `row` names.

    Args:
        row: "recommended", "runner-up", "baseline" or a trial's number.
        found: The study's recommendation.
        measured: All that it measured.
        study: Its name.

    Raises:
        ConfigError: there is none.
    """
    baseline = next((c for c in measured if c.baseline), None)
    named = {"recommended": found.pick, "runner-up": found.runner_up, "baseline": baseline}
    candidate = named.get(row) or next((c for c in measured if str(c.number) == row), None)
    if candidate is None:
        numbers = ", ".join(str(c.number) for c in measured)
        raise ConfigError(
            f"row={row} is no row of study {study!r}: recommended, runner-up (if there is one), baseline, or a "
            f"measured trial ({numbers})"
        )
    return candidate


def _instead(found: Recommendation, study: optuna.Study, number: int) -> Recommendation:
    """The recommendation with another measured trial as its pick, by its confirmed figures where there are some."""
    again = {c.number: c for c in found.considered}
    picked = again.get(number) or next(c for c in candidates(study) if c.number == number)
    return dataclasses.replace(
        found, pick=picked, gains={}, score=found.scores.get(number, found.score), runner_up=None, tied=False,
        rounds=found.rounds if number in again else 0,
    )  # fmt: skip
