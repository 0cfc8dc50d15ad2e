"""The study on disk: one folder per trial, complete in itself. Optuna and MLflow mirror it."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from objectives import Estimate, RequestRecord
from optimize.config.schema import GIVEN
from optimize.files import LONGEST_FOLDER, check_name, write_atomically
from optimize.outcome import Completed, Evaluation, Failed, Infeasible, Outcome, Role, State
from optimize.redaction import redact, redact_all


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
        audit: The client's own figures over the window; see `optimize.load.audit.Audit`.
        disturbed: What disturbed the machine during the window, in words.
        cut_short: Why the window was closed early; empty where it was not.
        repeated: Why earlier measurements of the trial were rejected, in words.
        seconds: Phase -> seconds it took: "ask" (the sampler), "engine_start", "repeated" (rejected measurements),
            "first_answer", "warmup", "window", "drain", "scoring" (the references), "total" (from the end of the ask
            to the end of the measurement), "wall" (from the ask until the study was told).
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
    audit: dict[str, Any] = field(default_factory=dict)
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
        self.cut_short = evaluation.cut_short
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
        raw = json.loads(text)
        raw["role"], raw["state"] = Role(raw["role"]), State(raw["state"])
        raw["estimates"] = {name: Estimate.from_dict(e) for name, e in raw["estimates"].items()}
        return cls(**raw)


def study_folder(output_dir: str | Path, name: str) -> Path:
    """The folder of a study's files, whether it exists or not.

    Raises:
        ConfigError: the name is not fit for a folder.
    """
    check_name("name of a study", name, LONGEST_FOLDER)
    return Path(output_dir) / "studies" / name


class Ledger:
    """The trial folders of one study."""

    def __init__(self, study_folder: Path) -> None:
        self.folder = study_folder
        self._trials = study_folder / "trials"

    def has_trials(self) -> bool:
        return any(self._trials.glob("*/trial.json"))

    def trial_folder(self, number: int) -> Path:
        folder = self._trials / f"{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, number: int) -> Path:
        """Path of one trial's engine log, whether it exists or not."""
        return self.trial_folder(number) / "engine.log"

    def write(self, record: TrialRecord) -> None:
        write_atomically(self.trial_folder(record.number) / "trial.json", record.to_json())

    def read(self, number: int) -> TrialRecord | None:
        path = self._trials / f"{number:04d}" / "trial.json"
        return TrialRecord.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None

    def records(self) -> Iterator[TrialRecord]:
        """All trials, by number."""
        for path in sorted(self._trials.glob("*/trial.json")):
            yield TrialRecord.from_json(path.read_text(encoding="utf-8"))

    def write_requests(
        self,
        number: int,
        records: Sequence[RequestRecord],
        series: Mapping[str, Sequence[tuple[float, float]]],
    ) -> None:
        """Keep the raw request records and the telemetry, as Parquet."""
        folder = self.trial_folder(number)
        names = [f.name for f in dataclasses.fields(RequestRecord)]
        columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in records] for name in names}
        # An answer is the model's, but what stands in its place after an error may quote a key.
        columns["text"] = [r.text if r.error is None else redact(r.text) for r in records]
        table = pa.table(columns)
        pq.write_table(table, folder / "requests.parquet", compression="zstd")
        points = [(name, t, v) for name, samples in series.items() for t, v in samples]
        columns = {key: [p[i] for p in points] for i, key in enumerate(("name", "time_s", "value"))}
        pq.write_table(pa.table(columns), folder / "telemetry.parquet", compression="zstd")

    def read_requests(self, number: int) -> list[RequestRecord]:
        """Every request of one trial's load; empty where there are none."""
        path = self._trials / f"{number:04d}" / "requests.parquet"
        return [RequestRecord(**row) for row in pq.read_table(path).to_pylist()] if path.is_file() else []

    def read_answers(self, number: int) -> Iterator[tuple[int, str]]:
        """(workload row, answer) of one trial's answered requests; empty where there are none."""
        path = self._trials / f"{number:04d}" / "requests.parquet"
        if path.is_file():
            columns = pq.read_table(path, columns=["prompt_id", "text", "error"]).to_pydict()
            for row, text, error in zip(*columns.values(), strict=True):
                if error is None:
                    yield row, text

    def read_latencies(self, number: int) -> list[tuple[float, float]]:
        """(due, latency) of one trial's answered requests in seconds, by due time; empty where there are none."""
        path = self._trials / f"{number:04d}" / "requests.parquet"
        if not path.is_file():
            return []
        columns = pq.read_table(path, columns=["due_s", "done_s", "error"]).to_pydict()
        return sorted((due, done - due) for due, done, error in zip(*columns.values(), strict=True) if error is None)

    def overrides(self) -> list[str]:
        """Overrides of the study's command, from the first line of its configuration."""
        path = self.folder / "config.yaml"
        head = path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else ""
        return shlex.split(head.removeprefix(GIVEN)) if head.startswith(GIVEN) else []

    def read_series(self, number: int) -> dict[str, list[tuple[float, float]]]:
        """The telemetry of one trial; empty where there are none."""
        path = self._trials / f"{number:04d}" / "telemetry.parquet"
        series: dict[str, list[tuple[float, float]]] = {}
        if path.is_file():
            for row in pq.read_table(path).to_pylist():
                series.setdefault(row["name"], []).append((row["time_s"], row["value"]))
        return series
