"""The study on disk: one folder per trial, complete in itself. Optuna and MLflow mirror it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from objectives import Estimate, RequestRecord
from optimize.config.command_words import words_of
from optimize.config.names import LONGEST_FOLDER, check_name
from optimize.errors import DamagedFile
from optimize.files import reading, replacing, write_atomically
from optimize.outcome import Completed, Evaluation, Failed, Infeasible, Outcome, Role, State
from optimize.raw_data import (
    Series,
    answers_in,
    check,
    latencies_in,
    requests_in,
    requests_table,
    series_in,
    telemetry_table,
    turns_in,
    write,
)
from optimize.redaction import redact, redact_all

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
_RECORD, _REQUESTS, _TELEMETRY = "trial.json", "requests.parquet", "telemetry.parquet"
_COPY = "bring it back from MLflow's artifacts or a backup, or delete it"
_REMEDIES = {
    _RECORD: "the study's own command, or python -m optimize.report, restores it from Optuna's storage",
    _REQUESTS: f"the trial's figures are not affected, its single requests are left out; {_COPY}",
    _TELEMETRY: f"the trial's figures are not affected, its telemetry is left out; {_COPY}",
}


@dataclass
class TrialRecord:
    """One trial, as kept in `trial.json`.

    Attributes:
        study: Name of the study.
        number: Optuna's trial number.
        role: Why it is measured.
        params: Knob -> value.
        config: The configuration as run: checkpoint, flags, request, command.
        signature: What else the figures depend on.
        state: Where it stands.
        baseline: Whether it runs vLLM's defaults.
        answers_key: What its answers depend on; see `optimize.evaluation.answers`.
        confirms: Number of the trial that it measures once more; None where it is the first of its settings.
        reason: Why it is infeasible or failed.
        evidence: Decisive lines of the engine's log.
        estimates: Metric -> figure.
        paired: Quality metric -> comparison with the baseline on common rows (`objectives.segments.Paired`).
        violations: Constraint -> violation; a constraint is kept at zero or less.
        feasible: Completed with every constraint kept.
        new_engine: Whether it needed an engine of its own, rather than the one that was live.
        dtype: Format and data type, see `optimize.evaluation.data_type`; empty where recipe and flags say all.
        audit: The client's own figures over the window; see `optimize.load.audit.Audit`.
        pace: The baseline's `optimize.load.pace.Pace`, which the limits of the load follow; empty without limits.
        capacity: The probes of its search for a capacity; see `optimize.outcome.Evaluation`.
        disturbed: What disturbed the machine during the window, in words.
        cut_short: Why the measurement ended early; empty where it did not.
        repeated: Why earlier measurements of the trial were rejected, in words.
        seconds: Phase -> seconds it took: "ask" (the sampler), "engine_start", of that "engine_start.compiling" and the
            other phases of `optimize.engine.startup`, "repeated" (rejected measurements), "first_answer", "warmup",
            "window", "drain", "scoring" (quality, by the engine), "total" (all but the ask), "wall" (until the study
            was told).
        started_at: Unix time.
        ended_at: Unix time; None while it runs.
    """

    study: str
    number: int
    role: Role
    params: dict[str, Any]
    config: dict[str, Any]
    signature: dict[str, str]
    state: State = State.RUNNING
    baseline: bool = False
    answers_key: str = ""
    confirms: int | None = None
    reason: str = ""
    evidence: list[str] = field(default_factory=list)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    paired: dict[str, Any] = field(default_factory=dict)
    violations: dict[str, float] = field(default_factory=dict)
    feasible: bool = False
    new_engine: bool = True
    dtype: str = ""
    audit: dict[str, Any] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)
    capacity: dict[str, Any] = field(default_factory=dict)
    disturbed: list[str] = field(default_factory=list)
    cut_short: str = ""
    repeated: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    started_at: float = 0.0
    ended_at: float | None = None

    def __post_init__(self) -> None:
        self.params, self.signature = redact_all(self.params), redact_all(self.signature)

    def conclude(
        self, evaluation: Evaluation, violations: Mapping[str, float] | None = None, missing: Sequence[str] = ()
    ) -> None:
        """Take in the result of the trial, and end it.

        Args:
            evaluation: The result.
            violations: Constraint -> violation; a trial is feasible if it is completed and none is above zero.
            missing: Objectives that could not be measured: without them a measured configuration is infeasible.
        """
        self._take_outcome(evaluation.outcome)
        if missing:
            self.state, self.reason = State.INFEASIBLE, f"{', '.join(missing)} could not be measured"
        self.violations = dict(violations or {})
        self.feasible = self.state is State.COMPLETED and all(v <= 0 for v in self.violations.values())
        self.answers_key, self.new_engine = evaluation.answers_key, evaluation.new_engine
        self.audit, self.paired = dict(evaluation.audit), dict(evaluation.paired)
        self.disturbed, self.repeated = list(evaluation.disturbances), redact_all(list(evaluation.repeats))
        self.cut_short, self.dtype, self.capacity = evaluation.cut_short, evaluation.dtype, dict(evaluation.capacity)
        self.pace = dict(evaluation.pace) if self.role is Role.BASELINE else self.pace
        self.seconds = {**self.seconds, **evaluation.seconds}
        self.ended_at = time.time()

    def _take_outcome(self, outcome: Outcome) -> None:
        match outcome:
            case Completed(estimates):
                self.state, self.estimates = State.COMPLETED, dict(estimates)
            case Infeasible(kind, reason, evidence):
                self.state, self.reason = State.INFEASIBLE, redact(f"{kind}: {reason}")
                self.evidence = redact_all(list(evidence))
            case Failed(reason):
                self.state, self.reason = State.FAILED, redact(reason)

    def to_json(self) -> str:
        raw = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "estimates"}
        raw["estimates"] = {name: e.to_dict() for name, e in self.estimates.items()}
        return json.dumps(raw, indent=1, default=str)

    @classmethod
    def from_json(cls, text: str) -> TrialRecord:
        """Read what `to_json` wrote, by this version or another one.

        Raises:
            ValueError: it is no JSON, a field is missing, or a value is of another type than its field.
        """
        return _schema().validate_python(json.loads(text))


@cache
def _schema() -> TypeAdapter[TrialRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(TrialRecord)


def study_folder(output_dir: str | Path, name: str) -> Path:
    """The folder of a study's files, whether it exists or not.

    Raises:
        ConfigError: the name is not fit for a folder.
    """
    check_name("name of a study", name, LONGEST_FOLDER)
    return Path(output_dir) / "studies" / name


class Ledger:
    """The trial folders of one study.

    A file that cannot be read counts as missing: the others are read, and `damage` says what is wrong with it.

    Attributes:
        folder: The study's folder.
        damage: File -> what is wrong with it and what to do about it, of the files that were to be read so far.
    """

    def __init__(self, study_folder: Path) -> None:
        self.folder = study_folder
        self.damage: dict[Path, str] = {}
        self._trials = study_folder / "trials"

    def has_trials(self) -> bool:
        return any(self._trials.glob("*/trial.json"))

    def trial_folder(self, number: int) -> Path:
        folder = self._trials / f"{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def numbers(self) -> list[int]:
        """The numbers of all trials that have a folder, in order."""
        return sorted(int(path.name) for path in self._trials.glob("*/") if path.name.isdecimal())

    def log(self, number: int) -> Path:
        """Path of one trial's engine log, whether it exists or not."""
        return self.trial_folder(number) / "engine.log"

    def write(self, record: TrialRecord) -> None:
        write_atomically(self.trial_folder(record.number) / _RECORD, record.to_json())

    def read(self, number: int) -> TrialRecord | None:
        """One trial; None where there is none that can be read."""
        return self._read(number, _RECORD, lambda path: TrialRecord.from_json(path.read_text(encoding="utf-8")), None)

    def records(self) -> Iterator[TrialRecord]:
        """All trials that can be read, by number."""
        yield from filter(None, map(self.read, self.numbers()))

    def is_damaged(self, number: int) -> bool:
        """Whether the record of a trial was to be read, and could not be."""
        return self._trials / f"{number:04d}" / _RECORD in self.damage

    def set_aside(self, number: int) -> Path | None:
        """Rename a damaged record, so that another can be written; returns where it is kept, None if there is none."""
        path = self._trials / f"{number:04d}" / _RECORD
        if self.damage.pop(path, None) is None:
            return None
        return path.rename(path.with_name(f"{_RECORD}.damaged-{time.time_ns()}"))

    def _read(self, number: int, name: str, read: Callable[[Path], T], missing: T) -> T:
        """What a reader makes of one file of a trial; `missing` where there is none, or it cannot be read."""
        path = self._trials / f"{number:04d}" / name
        if path.exists():
            try:
                with reading(path, _REMEDIES[name]):
                    return read(path)
            except DamagedFile as error:
                self.damage[path] = str(error)
        return missing

    def write_requests(
        self, number: int, records: Sequence[RequestRecord], series: Mapping[str, Sequence[tuple[float, float]]]
    ) -> None:
        """Keep the raw request records and the telemetry, as Parquet."""
        for name, table in ((_REQUESTS, requests_table(records)), (_TELEMETRY, telemetry_table(series))):
            with replacing(self.trial_folder(number) / name) as partial:
                write(table, partial)

    def check_tables(self) -> None:
        """Note as damage which raw data cannot be read, those too that nobody reads: by their ends, a moment each."""
        for number, name in product(self.numbers(), (_REQUESTS, _TELEMETRY)):
            self._read(number, name, check, None)

    def lost_tables(self) -> list[Path]:
        """Raw data that could not be read so far; the other damaged files are made again from Optuna's storage."""
        return [path for path in self.damage if path.name in (_REQUESTS, _TELEMETRY)]

    def read_requests(self, number: int) -> list[RequestRecord]:
        """Every request of one trial's load; empty where there are none."""
        return self._read(number, _REQUESTS, requests_in, [])

    def read_answers(self, number: int) -> list[tuple[int, str]]:
        """(workload row, answer) of one trial's answered requests; empty where there are none."""
        return self._read(number, _REQUESTS, answers_in, [])

    def read_latencies(self, number: int) -> list[tuple[float, float]]:
        """(due, latency) of one trial's answered requests in seconds, by due time; empty where there are none."""
        return self._read(number, _REQUESTS, latencies_in, [])

    def read_turns(self, number: int) -> list[RequestRecord]:
        """Every request of one trial's load, without its text; empty where none is a later turn of a conversation."""
        return self._read(number, _REQUESTS, turns_in, [])

    def read_series(self, number: int) -> Series:
        """The telemetry of one trial; empty where there are none."""
        return self._read(number, _TELEMETRY, series_in, {})

    def overrides(self) -> list[str]:
        """Overrides of the study's command, from the first line of its configuration; empty where it is unreadable."""
        path = self.folder / "config.yaml"
        try:
            with reading(path, "the same command writes it anew"):
                return words_of(self.config_yaml())
        except DamagedFile as error:
            self.damage[path] = str(error)
            return []

    def config_yaml(self) -> str:
        """The study's configuration as composed, with the words of its command; empty where it is unreadable."""
        path = self.folder / "config.yaml"
        try:
            with reading(path, "the same command writes it anew"):
                return path.read_text(encoding="utf-8") if path.exists() else ""
        except DamagedFile as error:
            self.damage[path] = str(error)
            return ""
