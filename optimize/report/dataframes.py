"""Studies as pandas DataFrames, for notebooks and for analyses of your own.

    from optimize.report.dataframes import read_study, studies
    study = read_study("chat")
    study.trials()

Nothing is measured or changed: the files under the output folder are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from objectives import Direction, Estimate
from optimize.decision.recommendation import Recommendation, recommend
from optimize.errors import ConfigError, closest
from optimize.formatting import figure
from optimize.ledger import Ledger, TrialRecord, study_folder
from optimize.report.terminal import in_words
from optimize.study.confirmation import directions_of, first_reading, recommendation, weights_of
from optimize.study.lifecycle import stored_studies
from optimize.study.rows import matrix_rows
from optimize.study.trials import candidates

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class StudyReader:
    """One study in its current state.

    Attributes:
        study: The study in Optuna's storage.
        ledger: Its folder.
    """

    study: optuna.Study
    ledger: Ledger

    @property
    def name(self) -> str:
        return self.study.study_name

    @property
    def directions(self) -> dict[str, Direction]:
        """Objective -> direction in which it improves."""
        return directions_of(self.study)

    @property
    def weights(self) -> dict[str, float]:
        """Objective -> weight in the study's own scenario."""
        return weights_of(self.study)

    def trials(self) -> pd.DataFrame:
        """A row per ended trial: its state, its knobs, and each metric as value, `_low` and `_high`.

        A trial that could not be measured has a reason and no figures.
        """
        rows = [_row(record) for record in self.ledger.records() if record.ended_at is not None]
        return pd.DataFrame(rows).set_index("trial")

    def front(self) -> pd.DataFrame:
        """The Pareto front by the search's single measurements, best score first."""
        search = first_reading(self.study)
        return pd.DataFrame() if search is None else self.trials().loc[[c.number for c in search.front]]

    def recommendation(self, weights: Mapping[str, float] | None = None) -> Recommendation | None:
        """The configuration to deploy; None if no measured one keeps every constraint.

        Args:
            weights: Objective -> weight of another scenario, applied to the search's single measurements, which are
                weaker evidence; None for the study's own weights and its confirmed figures.
        """
        if weights is None:
            return recommendation(self.study)
        return recommend(candidates(self.study), self.directions, weights)

    def in_words(self) -> str:
        """The recommendation as the study printed it."""
        final = self.recommendation()
        return "no recommendation yet" if final is None else in_words(self.study, final).strip()

    def requests(self, trial: int) -> pd.DataFrame:
        """Every request of one trial's load, in seconds since its beginning; `latency_s` counts from `due_s`.

        Raises:
            ConfigError: the trial has no requests.
        """
        rows = pd.read_parquet(self._file(trial, "requests.parquet"))
        return rows.assign(latency_s=rows["done_s"] - rows["due_s"], ttft_s=rows["first_token_s"] - rows["due_s"])

    def telemetry(self, trial: int) -> pd.DataFrame:
        """Telemetry of one trial's load: a column per series, indexed by seconds since its beginning.

        Raises:
            ConfigError: the trial has no telemetry.
        """
        samples = pd.read_parquet(self._file(trial, "telemetry.parquet"))
        wide = samples.pivot_table(index="time_s", columns="name", values="value")
        return wide.groupby(
            wide.index.to_series().round(1)
        ).mean()  # one row per sampling: its series are milliseconds apart

    def _file(self, trial: int, name: str) -> Path:
        path = self.ledger.folder / "trials" / f"{trial:04d}" / name
        if not path.is_file():
            raise ConfigError(f"trial {trial} of {self.name!r} left no {name}: it was not measured")
        return path


def studies(output_dir: str | Path = "mlruns") -> dict[str, StudyReader]:
    """All studies under an output folder, by name.

    Raises:
        ConfigError: there are no studies.
    """
    folder = Path(output_dir)
    if not (folder / "optuna.db").is_file():
        raise ConfigError(f"{folder} holds no studies: run one first, e.g. python -m optimize +study=smoke")
    stored = stored_studies(f"sqlite:///{folder}/optuna.db")
    return {s.study_name: StudyReader(s, Ledger(study_folder(folder, s.study_name))) for s in stored}


def read_study(name: str, output_dir: str | Path = "mlruns") -> StudyReader:
    """One study.

    Raises:
        ConfigError: there is no such study.
    """
    by_name = studies(output_dir)
    if name not in by_name:
        raise ConfigError(f"{output_dir} holds no study {name!r}; {closest(name, by_name)}")
    return by_name[name]


def matrix(readers: Mapping[str, StudyReader]) -> pd.DataFrame:
    """The recommendations, a row per scenario and model: knobs, then figures with their intervals."""
    rows = matrix_rows([reader.study for reader in readers.values()])
    return pd.DataFrame(
        {
            "scenario": row.title, "model": row.signature["model"].split()[0], "study": row.study,
            "trial": row.recommendation.pick.number, **row.recommendation.pick.params,
            **{name: figure(row.recommendation.pick.estimates[name]) for name in row.objectives},
            "score": figure(row.recommendation.score),
        }
        for row in rows
    ).set_index("study")  # fmt: skip


def gains(recommendation: Recommendation) -> pd.DataFrame:
    """A row per objective: the improvement factor over vLLM's defaults and its 95 % interval; above 1 is better."""
    return pd.DataFrame({name: _ends(e) for name, e in recommendation.gains.items()}).T


def _ends(estimate: Estimate) -> dict[str, float]:
    return {"gain": estimate.value, "low": estimate.low, "high": estimate.high}


def _row(record: TrialRecord) -> dict[str, Any]:
    figures: dict[str, float] = {}
    for name, e in record.estimates.items():
        figures |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
    return {
        "trial": record.number, "role": record.role, "state": record.state, "feasible": record.feasible,
        "reason": record.reason, **record.params, **figures,
    }  # fmt: skip
