"""The studies of an output folder as the first page shows them, read from their files alone.

Each file is read again once it has changed, so that a page over many studies stays quick. A damaged one is named, and
hides nothing else.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from objectives import Direction, Estimate
from optimize.errors import DamagedFile
from optimize.files import read_json, reading
from optimize.outcome import Role, State
from optimize.study import status
from optimize.study.status import Status

T = TypeVar("T")
STUDY, MEASUREMENT, TABLE, CERTIFICATE = "study", "measurement", "table", "certificate"
_KINDS = {"measure-": MEASUREMENT, "table-": TABLE, "certify-": CERTIFICATE}
"""Kinds of what is no study, by the start of the name that its command gives it."""
_REMEDY = "the study's own command, or python -m optimize.report, writes it anew"


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        number: Its number.
        role: Why it was measured.
        feasible: Whether it keeps every constraint.
        baseline: Whether it ran vLLM's defaults.
        estimates: Metric -> figure; empty if nothing was measured.
        ended_at: Unix time; 0 of a record that does not hold it.
    """

    number: int
    role: str
    feasible: bool
    baseline: bool
    estimates: Mapping[str, Estimate]
    ended_at: float = 0.0


@dataclass(frozen=True)
class Result:
    """A row of the matrix: what to deploy.

    Attributes:
        study: Name of the study.
        title: Scenario for people.
        number: Trial of the recommendation.
        settings: Knob -> value, the data type that vLLM chose beside the recipe.
        estimates: Metric -> figure.
        gains: Objective -> how many times better than vLLM's defaults.
        score: Weighted geometric mean of the gains.
        decisive: Whether the evidence shows an improvement.
        rounds: Rounds of the confirmation; 0 without one.
        date: Day of the measurement.
        simulated: Whether a simulated engine answered.
    """

    study: str
    title: str
    number: int
    settings: Mapping[str, Any]
    estimates: Mapping[str, Estimate]
    gains: Mapping[str, Estimate]
    score: Estimate
    decisive: bool
    rounds: int
    date: str
    simulated: bool

    @property
    def is_default(self) -> bool:
        """Whether it recommends vLLM's defaults themselves."""
        return self.score.value == self.score.low == self.score.high == 1.0


@dataclass(frozen=True)
class Entry:
    """A study, or a measurement, table or certificate.

    Attributes:
        name: Its name, which is that of its folder.
        kind: study, measurement, table or certificate.
        title: Scenario for people.
        model: Name of the model.
        simulated: Whether a simulated engine answered: then no figure is a measurement.
        directions: Objective -> which way it improves.
        trials: All that have ended.
        status: Its last session; None of an earlier version's.
        complete: Whether MLflow holds all of it.
        result: The recommendation of its last report; None without one.
        run: (experiment id, run id) in MLflow's database; None if it is not there.
        number: Id in Optuna's database; None if it is not there.
        reports: Files of its report that a browser can show.
        changed_at: Unix time of its last session or trial, which a copy of its files keeps.
        damage: What cannot be read, and what to do about it.
    """

    name: str
    kind: str
    title: str
    model: str
    simulated: bool
    directions: Mapping[str, Direction]
    trials: Sequence[Trial]
    status: Status | None
    complete: bool
    result: Result | None
    run: tuple[str, str] | None
    number: int | None
    reports: Sequence[str]
    changed_at: float
    damage: Sequence[str] = field(default=())

    @property
    def state(self) -> str:
        """running, finished, failed or interrupted."""
        if self.status is not None:
            return self.status.now()
        return status.FINISHED if self.complete else status.INTERRUPTED


_NOTHING: dict[str, Any] = {}
_NO_ROWS: list[Result] = []


class Studies:
    """Reads the studies of an output folder.

    Args:
        folder: The output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[Path, tuple[tuple[int, int], Any, str]] = {}

    def entries(self) -> list[Entry]:
        """All of them: those that run first, then the last changed."""
        numbers = dict(_query(self._folder / "optuna.db", "select study_name, study_id from studies"))
        runs = dict(_query(self._folder / "mlflow.db", "select run_uuid, experiment_id from runs"))
        paths = (self._folder / "studies").glob("*/about.json")
        listed = [self._entry(path.parent, numbers, runs) for path in paths]
        return sorted(listed, key=lambda entry: (entry.state != status.RUNNING, -entry.changed_at))

    def matrix(self) -> tuple[list[Result], list[str]]:
        """The matrix over all studies as the last report wrote it, and what is wrong with its file."""
        damage: list[str] = []
        return self._read(self._folder / "matrix.json", _results, _NO_ROWS, damage), damage

    def _entry(self, study: Path, numbers: Mapping[str, int], runs: Mapping[str, int]) -> Entry:
        damage: list[str] = []
        about = self._read(study / "about.json", _about, _NOTHING, damage)
        state = self._read(study / "mlflow.json", _object, _NOTHING, damage)
        tags, paths = about.get("tags", {}), sorted(study.glob("trials/*/trial.json"))
        trials = [trial for path in paths if (trial := self._read(path, _trial, None, damage))]
        rows = self._read(study / "report" / "matrix.json", _results, _NO_ROWS, damage)
        session = self._read(study / status.FILE, lambda path: status.read(path.parent), None, damage)
        run = str(state.get("run_id", ""))
        return Entry(
            name=study.name, kind=_kind(study.name, trials), title=str(about.get("title") or tags.get("scenario", "")),
            model=str(tags.get("model", "")), simulated=about.get("simulated", False),
            directions=about.get("directions", {}), trials=trials, status=session,
            complete=bool(state.get("complete")), result=next(iter(rows), None),
            run=(str(runs[run]), run) if run in runs else None, number=numbers.get(study.name),
            reports=sorted((path.name for path in study.glob("report/*.html")), key=lambda n: (n != "report.html", n)),
            changed_at=_changed_at(session, trials) or _written_at(study / "about.json"), damage=damage,
        )  # fmt: skip

    def _read(self, path: Path, read: Callable[[Path], T], missing: T, damage: list[str]) -> T:
        """What a reader makes of a file, once for each of its versions; `missing` where there is none, or it is bad."""
        try:
            stat = path.stat()
        except OSError:
            return missing
        version = stat.st_mtime_ns, stat.st_size
        if self._contents.get(path, (None,))[0] != version:
            self._contents[path] = (version, *_content(path, read, missing))
        _, content, fault = self._contents[path]
        damage += [fault] if fault else []
        result: T = content
        return result


def _content(path: Path, read: Callable[[Path], T], missing: T) -> tuple[T, str]:
    """(what a reader makes of a file, what is wrong with the file)."""
    try:
        with reading(path, _REMEDY):
            return read(path), ""
    except DamagedFile as error:
        return missing, str(error)


def _object(path: Path) -> dict[str, Any]:
    return read_json(path, _REMEDY)


def _about(path: Path) -> dict[str, Any]:
    """Tags, title, directions and whether it is simulated; the oldest of these files hold the tags alone."""
    raw = read_json(path, _REMEDY)
    tags = raw.get("tags", raw)
    return {
        "tags": {key: str(value) for key, value in tags.items()},
        "title": str(raw.get("scenario", {}).get("title", "")) if "tags" in raw else "",
        "directions": {name: Direction(way) for name, way in raw.get("directions", {}).items()},
        "simulated": _is_simulated(raw),
    }


def _is_simulated(raw: Mapping[str, Any]) -> bool:
    return str(raw.get("signature", {}).get("engine", "")).startswith("simulated")


def _trial(path: Path) -> Trial | None:
    """A trial that has ended; None of one that runs, or failed for a transient reason."""
    raw = read_json(path, _REMEDY)
    if raw["state"] not in (State.COMPLETED, State.INFEASIBLE):
        return None
    figures = _estimates(raw["estimates"]) if raw["state"] == State.COMPLETED else {}
    return Trial(
        int(raw["number"]), str(raw["role"]), bool(raw["feasible"]), bool(raw["baseline"]), figures,
        float(raw.get("ended_at") or 0.0),
    )  # fmt: skip


def _results(path: Path) -> list[Result]:
    return [_result(raw) for raw in json.loads(path.read_text(encoding="utf-8"))]


def _result(raw: Mapping[str, Any]) -> Result:
    return Result(
        study=str(raw["study"]), title=str(raw["title"]), number=int(raw["trial"]),
        settings=dict(raw.get("settings", raw["params"])),
        estimates=_estimates(raw["estimates"]), gains=_estimates(raw["gains_over_vllm_defaults"]),
        score=Estimate.from_dict(raw["score"]), decisive=bool(raw["better_than_defaults"]),
        rounds=int(raw["rounds"]), date=str(raw["date"]), simulated=_is_simulated(raw),
    )  # fmt: skip


def _estimates(raw: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate.from_dict(figure) for name, figure in raw.items()}


def _kind(name: str, trials: Iterable[Trial]) -> str:
    """By the role of its trials; before there are any, by its name."""
    roles = {trial.role for trial in trials}
    if roles & {Role.BASELINE, Role.SEARCH}:
        return STUDY
    return next((kind for start, kind in _KINDS.items() if name.startswith(start)), STUDY)


def _changed_at(session: Status | None, trials: Iterable[Trial]) -> float:
    """Unix time of the last session or trial; 0 where neither says when it was."""
    return max([session.updated_at if session else 0.0, *(trial.ended_at for trial in trials)])


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # moved away since it was listed, or not there
        return 0.0


def _query(database: Path, query: str) -> Iterator[tuple[Any, Any]]:
    """Rows of a database, read-only; none if it does not exist or is not ready."""
    if database.is_file():
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{quote(os.fsencode(database))}?mode=ro", uri=True)) as connection,
        ):
            yield from connection.execute(query).fetchall()
