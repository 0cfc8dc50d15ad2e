"""`python -m optimize.guard`: from its configuration to the verdict."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from optimize.config.guard import STORED
from optimize.config.names import new_name
from optimize.config.schema import StudyConfig
from optimize.driver.forecast import Forecast
from optimize.driver.look import look
from optimize.driver.progress import Progress
from optimize.driver.references import in_words, signed
from optimize.driver.session import tracked
from optimize.driver.signals import terminable
from optimize.driver.single import measure_once, record_of
from optimize.engine.pool import EnginePool
from optimize.evaluation.auto_level import at_own_level
from optimize.evaluation.evaluator import Evaluator
from optimize.evaluation.references import References, kept_references, references_of
from optimize.files import write_files
from optimize.formatting import terminal
from optimize.guard.comparison import Comparison
from optimize.guard.quality import SideAnswers, changes_of
from optimize.guard.report import CODES, Report, show, to_json, to_junit, to_markdown
from optimize.guard.rounds import RoundLoop
from optimize.guard.sequential import LEAST_ROUNDS
from optimize.guard.sides import OTHER, ROW, Side, Stored, changes_between, sides_of, stored_of
from optimize.ledger import Ledger, TrialRecord, study_folder
from optimize.load.client_pool import ClientPool
from optimize.load.clock import MonotonicClock
from optimize.outcome import Role, State
from optimize.redaction import redact_all
from optimize.study.signatures import differences
from optimize.tracking.tracker import Tracker

Say = Callable[[str], None]


def run_guard(config: StudyConfig, config_yaml: str) -> int:
    """Measure both sides in rounds until there is a verdict or no time.

    Args:
        config: The typed configuration.
        config_yaml: The configuration as composed.

    Returns:
        0 for PASS, 1 for FAIL, 3 for INCONCLUSIVE.

    Raises:
        ConfigError: bad input.
        OptimizeError: there is no checkpoint, or no reference to score answers against.
    """
    guard = Guard.of(config, sys.argv[1:])
    plan = guard.row.plan
    progress = Progress(guard.total(LEAST_ROUNDS), list(plan.objectives), folder=plan.folder)
    tags = {"study": plan.config.study.name, "model": plan.config.model.name}

    def conclude(tracker: Tracker, status: str) -> None:
        report, files = guard.report(), guard.write()
        ratios = {f"{j.objective}_ratio": j.ratio.value for j in report.judgements if j.ratio is not None}
        tracker.close({**ratios, "rounds": float(report.rounds)}, to_markdown(report)[:5000], files, status)

    with (
        terminable(), tracked(plan, config_yaml, progress.say, conclude, tags) as tracker, progress,
        ClientPool(config.load.clients) as clients, guard.pools() as pools,
    ):  # fmt: skip
        look(plan, progress)
        guard.settle(pools, clients, progress)
        guard.loop(pools, clients, tracker, progress).run()
    show(guard.report(), terminal())
    print(f"written: {', '.join(str(path) for path in guard.write())}")
    return CODES[guard.report().verdict]


@dataclass
class Guard:
    """One run.

    Attributes:
        config: The configuration of the row's side.
        words: The command line.
        row: The row.
        other: The other side.
        stored: The row's stored figures; None where it is measured, too.
        comparison: The rounds so far, and what they say.
        answers: Name of a side -> its answers.
        references: The unquantized model's own answers, where these are what answers are scored against.
        rounds: The loop, once it has begun.
    """

    config: StudyConfig
    words: Sequence[str]
    row: Side
    other: Side
    stored: Stored | None
    comparison: Comparison
    answers: dict[str, SideAnswers]
    references: References | None = None
    rounds: RoundLoop | None = field(default=None, init=False)

    @classmethod
    def of(cls, config: StudyConfig, words: Sequence[str]) -> Guard:
        """A run that is about to begin; raises as `sides_of`."""
        name = new_name("guard", config.study.name)
        row, other = sides_of(config, words, name, lambda line: print(line, flush=True))
        stored = stored_of(config, row) if config.guard.against == STORED else None
        settings = config.guard
        comparison = Comparison(
            {name: objective.direction for name, objective in row.plan.objectives.items()},
            {name: settings.margins.get(name, settings.margin) for name in row.plan.objectives},
            None if stored is None else stored.estimates,
        )
        answers = {ROW: SideAnswers({} if stored is None else dict(stored.answers)), OTHER: SideAnswers()}
        return cls(config, words, row, other, stored, comparison, answers)

    @property
    def sides(self) -> list[Side]:
        """The sides that are measured."""
        return [self.other] if self.stored is not None else [self.row, self.other]

    def total(self, rounds: int) -> int:
        """Measurements of so many rounds."""
        return rounds * len(self.sides)

    @contextmanager
    def pools(self) -> Iterator[dict[str, EnginePool]]:
        """Name of a side -> its engines: at most one lives at a time, but each side keeps what starts it quickly."""
        with ExitStack() as stack:
            yield {
                side.name: stack.enter_context(EnginePool(side.plan.launcher, side.plan.folder / "engines" / folder))
                for side, folder in zip(self.sides, ("row", "other")[-len(self.sides) :], strict=True)
            }

    def settle(self, pools: Mapping[str, EnginePool], clients: ClientPool, progress: Progress) -> None:
        """Set what both sides have in common and only an engine can say: the level of the load, and the references."""
        first = self.sides[0]
        if self.stored is None:
            plan = at_own_level(self.row.plan, pools[ROW], clients, progress.say, progress.phase)
            self.row = dataclasses.replace(self.row, plan=plan)
        signature = self.row.plan.signature if self.stored is None else self.stored.signature
        self.other = self.other.at_level(signature)
        pools[first.name].close()
        plan = self.sides[0].plan
        of_study = dataclasses.replace(plan, folder=study_folder(self.config.output_dir, self.config.study.name))
        self.references = kept_references(of_study) or references_of(plan, pools[first.name], clients, progress.phase)
        if self.references is not None:
            progress.say(in_words(plan, self.references))
            self.row, self.other = (
                dataclasses.replace(s, plan=signed(s.plan, self.references)) for s in (self.row, self.other)
            )

    def loop(
        self, pools: Mapping[str, EnginePool], clients: ClientPool, tracker: Tracker, progress: Progress
    ) -> RoundLoop:
        """The loop over rounds, on live engines."""
        ledger = Ledger(self.row.plan.folder)
        sides = {
            side.name: LiveSide(
                side, pools[side.name],
                Evaluator(
                    side.plan, pools[side.name], clients, ledger, progress.phase, self.answers[side.name],
                    references=self.references,
                ),
                tracker, progress,
            )
            for side in self.sides
        }  # fmt: skip
        self.rounds = RoundLoop(
            self.comparison, lambda name, number: sides[name].measure(number),
            lambda: changes_of(self.row, self.other, self.answers, self.references),
            60 * self.config.guard.minutes, MonotonicClock(), self.config.study.seed, list(sides),
            lambda rounds: progress.expect(Forecast(self.total(rounds), done=len(ledger.numbers()))),
        )  # fmt: skip
        return self.rounds

    def report(self) -> Report:
        """What is known so far."""
        rounds = self.rounds
        return Report(
            study=self.config.study.name, title=self.row.target.title,
            verdict=self.comparison.verdict if rounds is None else rounds.verdict,
            judgements=list(self.comparison.judgements.values()),
            changes=changes_between(self.row, self.other, self.config.guard),
            seconds=0.0 if rounds is None else rounds.seconds, refusal="" if rounds is None else rounds.refusal,
            notes=self._notes(), command=_command(self.words), date=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            signature=self.row.plan.signature,
        )  # fmt: skip

    def _notes(self) -> list[str]:
        return [*self._disturbances(), *self._since()]

    def _disturbances(self) -> list[str]:
        if self.rounds is None or not self.rounds.disturbed:
            return []
        disturbed = self.rounds.disturbed
        return [f"{len(disturbed)} of {self.comparison.rounds} rounds were disturbed, the last by: {disturbed[-1]}"]

    def _since(self) -> list[str]:
        if self.stored is None:
            return []
        lines = differences([("stored", self.stored.signature), ("now", self.other.plan.signature)])
        return ["the row's figures are those stored with the study", *(f"since then {line}" for line in lines)]

    def write(self) -> list[Path]:
        """Write the report beside the measurements, and into the study's folder for CI; returns the paths of these."""
        report = self.report()
        texts = {"guard.md": to_markdown(report), "guard.json": to_json(report), "guard.xml": to_junit(report)}
        own = write_files(texts, self.row.plan.folder / "report")
        if self.config.at:
            return own
        return write_files(texts, study_folder(self.config.output_dir, self.config.study.name) / "guard")


@dataclass(frozen=True)
class LiveSide:
    """A side on live engines.

    Attributes:
        side: The side.
        pool: Its engines.
        evaluator: Measures them.
        tracker: Mirrors the measurements to MLflow.
        progress: Shows them on the terminal.
    """

    side: Side
    pool: EnginePool
    evaluator: Evaluator
    tracker: Tracker
    progress: Progress

    def measure(self, number: int) -> TrialRecord:
        """Measure the side in a round, on a new engine, and again after a passing failure."""
        for _ in range(self.side.plan.config.executor.retries + 1):
            record = self._record(number)
            measure_once(record, self.side.point, self.evaluator, self.tracker, self.progress)
            self.pool.close()  # how far engines differ from one start to the next is part of the interval
            if record.state is not State.FAILED:
                break
        return record

    def _record(self, number: int) -> TrialRecord:
        side = self.side
        trial = 1 + max(self.evaluator.ledger.numbers(), default=-1)
        params = {**side.target.params, "side": side.name}
        record = record_of(side.plan, trial, Role.MEASUREMENT, params, side.point)
        record.config |= {"round": number, "side": side.name}
        return record


def _command(words: Sequence[str]) -> str:
    """The command line without folders, which differ between machines."""
    shown = [word for word in words if not word.startswith(("output_dir=", "cache_dir="))]
    return shlex.join(["python", "-m", "optimize.guard", *redact_all(shown)])
