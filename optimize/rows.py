"""One measured row of a study: what is deployed, and what is priced."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from optimize.confirm import recommendation
from optimize.errors import ConfigError, closest
from optimize.plan import check_sqlite
from optimize.report.conclude import row_of
from optimize.report.matrix import Row
from optimize.schema import StudyConfig
from optimize.study import candidates, stored_studies

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
    """The row that `study.name` and `row.trial` name.

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
    number, recommended = config.row.trial, found.pick.number
    if number is not None and number != recommended:
        found = _instead(found, study, number)
    hardware = str(study.user_attrs["about"].get("hardware", ""))
    return Chosen(row_of(study, found), model, hardware, number in (None, recommended))


def _study(config: StudyConfig) -> optuna.Study:
    check_sqlite(config.tracking.storage, "studies")
    by_name = {study.study_name: study for study in stored_studies(config.tracking.storage)}
    if config.study.name not in by_name:
        raise ConfigError(
            f"{config.tracking.storage} holds no study {config.study.name!r}: run it first, e.g. scripts/optimize "
            f"+study=chat; {closest(config.study.name, by_name)}"
        )
    return by_name[config.study.name]


def _instead(found: Recommendation, study: optuna.Study, number: int) -> Recommendation:
    """The recommendation with another measured trial as its pick, by its confirmed figures where there are some."""
    measured = {c.number: c for c in candidates(study)} | {c.number: c for c in found.considered}
    if number not in measured:
        raise ConfigError(
            f"row.trial={number} is no measured trial of study {study.study_name!r}; measured: "
            f"{', '.join(map(str, sorted(measured)))}"
        )
    rounds = found.rounds if number in {c.number for c in found.considered} else 0
    score = found.scores.get(number, found.score)
    return dataclasses.replace(
        found, pick=measured[number], gains={}, score=score, runner_up=None, tied=False, rounds=rounds
    )
