"""Tables: the whole command once on the simulated engine, everything else on scripted measurements."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from objectives import Estimate, RequestRecord
from optimize.config.compose import configuration
from optimize.engine.base import TrialConfig
from optimize.errors import ConfigError, FailureKind, OptimizeError
from optimize.evaluation.answers import answers_key
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Completed, Evaluation, Failed, Infeasible, Outcome, State
from optimize.plan import Plan, make_plan
from optimize.tables.measurement import GridMeasurements, GridRun
from optimize.tables.render import to_lines
from optimize.tables.result import Result, result_of
from optimize.tables.session import conclude, grids_of, run_table, study_of
from optimize.tables.spec import SPECS, values_of
from tests.conftest import VERBS, Run
from tests.overrides import changed

Outcomes = Callable[[TrialConfig, int], Outcome]
"""From a configuration and the number of earlier measurements to an outcome."""


class Script:
    """Measures a table's grids by a script, and leaves the files of real measurements.

    Args:
        name: Name of the table.
        overrides: The command's words.
        outcomes: The script.
    """

    def __init__(self, name: str, overrides: list[str], outcomes: Outcomes) -> None:
        config = configuration(overrides)
        self.spec, self.values = SPECS[name], values_of(SPECS[name], config.tables, config.at)
        self.name, self.outcomes = name, outcomes
        self.plan: Plan = make_plan(study_of(name, self.spec, self.values, config))
        self.ledger = Ledger(self.plan.folder)
        self.measured: list[tuple[int, int]] = []
        self.rounds = 0

    def measure(self, record: TrialRecord, config: TrialConfig) -> None:
        outcome = self.outcomes(config, record.number)
        seconds = {"warmup": 1.0, "window": 10.0}
        record.conclude(Evaluation(outcome, answers_key(config), seconds))
        self.ledger.write(record)
        if isinstance(outcome, Completed):
            self.ledger.write_requests(record.number, self._requests(config), {})

    def _requests(self, config: TrialConfig) -> list[RequestRecord]:
        """Forty answered requests within the window, four a second; with few beams each answer has a wrong end."""
        references = self.plan.workload.references
        ends = "" if config.request.beam_size > 1 else " over there again and again"
        return [
            RequestRecord(i, 1.0 + i / 4, 1.0 + i / 4, None, 1.5 + i / 4, 20, 30, references[i] + ends)
            for i in range(40)
        ]

    def run(self) -> list[GridMeasurements]:
        grids = grids_of(self.spec, self.values, self.plan.config.at)
        run = GridRun(self.plan, self.measure, lambda: len(list(self.ledger.records())), self._end_round)
        for grid in grids:
            run.run(grid, {self.plan.space.fixed_recipe.name: "a checkpoint"}, {})
        return grids

    def _end_round(self) -> None:
        self.rounds += 1

    def result(self) -> Result | None:
        return result_of(self.name, self.spec, self.plan, self.run())


def completed(qps: float) -> Completed:
    return Completed({"qps": Estimate(qps, 0.9 * qps, 1.1 * qps, 40, "1/s")})


def by_batch(config: TrialConfig, number: int) -> Outcome:
    """Four requests a second per place in the batch, one percent more with each measurement."""
    return completed(4.0 * dict(config.engine.flags)["max_num_seqs"] * 1.01**number)


@pytest.fixture
def words(simulated: list[str]) -> list[str]:
    return [*simulated, "tables.batch_size=[1,4]", "tables.beam_size=[1,4]", "repeats=2"]


@pytest.mark.timeout(120)
def test_a_table_of_batch_sizes(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    into = tmp_path / "tables.md"
    options = ["tables.batch_size=[1,4]", "repeats=2", "load.iterations={warmup: 2, measured: 8}"]
    done = optimize(["batch_size", *simulated, *options, f"tables.into={into}"], verb="optimize.tables")
    assert done.returncode == 0, done.stderr
    assert "Effect of batch_size" in done.stdout and "“Larger batches lower P99”" in done.stdout

    (study,) = (tmp_path / "out/studies").iterdir()
    records = list(Ledger(study).records())
    assert sorted((r.params["batch_size"], r.config["round"]) for r in records) == [(1, 0), (1, 1), (4, 0), (4, 1)]
    assert all(r.estimates["p99_latency_s"].n >= 8 * 4 for r in records)  # eight iterations of four users
    assert "iterations=2+8" in records[0].signature["load"]

    text = into.read_text()
    assert text.count("\n## Effect of batch_size: model demo, workload file\n") == 1
    assert "simulated (no measurement)" in text and "tables.batch_size=[1,4]" in text and "output_dir" not in text
    report = study / "report"
    assert {p.name for p in report.iterdir()} == {"table.md", "table.csv", "table.json", "batch_size.html"}
    lines = list(csv.DictReader((report / "table.csv").read_text().splitlines()))
    assert [line["batch_size"] for line in lines] == ["1", "4"] and float(lines[1]["qps.change"]) > 1
    assert "plotly.js" in (report / "batch_size.html").read_text()[:5_000_000]

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/out/mlflow.db")
    experiment = client.get_experiment_by_name("optimize")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in runs if "mlflow.parentRunId" not in r.data.tags)
    assert len(runs) == 5 and "batch_size 4/qps.change" in parent.data.metrics


def test_every_row_is_measured_once_a_round_and_each_round_has_its_own_engines(words: list[str]) -> None:
    script = Script("batch_size", words, by_batch)
    (grid,) = script.run()
    rounds = [(r.config["round"], r.params["batch_size"]) for r in grid.records]
    assert sorted(rounds) == [(0, 1), (0, 4), (1, 1), (1, 4)] and [r for r, _ in rounds] == [0, 0, 1, 1]
    assert script.rounds == 2
    assert [r.number for r in script.ledger.records()] == [0, 1, 2, 3]


def test_changes_are_against_the_first_row(words: list[str]) -> None:
    result = Script("batch_size", words, by_batch).result()
    assert result is not None
    one, four = to_lines(result)
    assert "qps.change" not in one and four["qps.change"] == pytest.approx(4, rel=0.05)
    assert f"{result.title}" == "Effect of batch_size: model demo, workload file"
    assert any(note.startswith("2 rounds: each measures every row once") for note in result.notes)


def test_stored_measurements_are_scored_again_without_an_engine(
    optimize: Run, words: list[str], tmp_path: Path
) -> None:
    """As a release with another definition of a rate would have left them: the estimates follow the requests."""
    script = Script("batch_size", words, by_batch)
    script.run()
    study = script.plan.folder
    for record in script.ledger.records():
        script.ledger.write(replace(record, estimates={"qps": Estimate(999.0, 999.0, 999.0, 50, "1/s")}))
    done = optimize(["batch_size", *words, f"tables.again={study.name}"], verb="optimize.tables")
    assert done.returncode == 0, done.stderr
    assert "Effect of batch_size" in done.stdout
    rows = list(csv.DictReader((study / "report/table.csv").read_text().splitlines()))
    assert [float(row["qps"]) for row in rows] == pytest.approx([4, 4], rel=0.1)  # four requests a second were sent
    assert not (study / "engines").exists()
    others = optimize(
        ["batch_size", *words, "tables.batch_size=[2,3]", f"tables.again={study.name}"], verb="optimize.tables"
    )
    assert others.returncode == 2 and "holds no measurements of these rows" in others.stderr


def test_a_table_of_beams_compares_answers_in_pairs(words: list[str]) -> None:
    metric = "+metrics.exact_match={_target_: objectives.quality.ExactMatch}"
    result = Script("beam_size", [*words, metric], lambda config, number: completed(10.0 + number)).result()
    assert result is not None and "exact match" in result.columns.values()
    one, four = to_lines(result)
    assert four["bleu"] > one["bleu"] and four["bleu.p"] < 0.01
    assert four["bleu.difference.low"] > 0


def test_a_first_row_that_cannot_run_leaves_the_others(words: list[str]) -> None:
    def outcomes(config: TrialConfig, number: int) -> Outcome:
        fits = dict(config.engine.flags)["max_num_seqs"] < 8
        return by_batch(config, number) if fits else Infeasible(FailureKind.DEVICE_OOM, "out of memory (scripted)")

    script = Script("batch_size", [*words, "tables.batch_size=[8,2,1]"], outcomes)
    (grid,) = measured = script.run()
    assert sum(r.params["batch_size"] == 8 for r in grid.records) == 1  # not tried again
    result = result_of(script.name, script.spec, script.plan, measured)
    assert result is not None
    rows: list[dict[str, Any]] = to_lines(result)
    assert rows[0]["refused"].startswith("device_oom") and "qps.change" not in rows[1] and "qps.change" in rows[2]


def test_a_passing_failure_is_retried_and_a_missing_steady_state_is_no_refusal(words: list[str]) -> None:
    def outcomes(config: TrialConfig, number: int) -> Outcome:
        return Failed("a dropped connection") if number == 0 else by_batch(config, number)

    (grid,) = Script("batch_size", words, outcomes).run()
    assert [r.state for r in grid.records].count(State.FAILED) == 1 and len(grid.records) == 5
    assert all(len(rounds) == 2 for rounds in grid.readings.values())

    (restless,) = Script(
        "batch_size", words, lambda config, number: Infeasible(FailureKind.UNSETTLED, "no steady state")
    ).run()  # fmt: skip
    assert restless.refused == {} and set(restless.failed) == {0, 1}


def test_nothing_measured_is_no_table(words: list[str]) -> None:
    script = Script("batch_size", words, lambda config, number: Infeasible(FailureKind.DEVICE_OOM, "out of memory"))
    assert script.result() is None
    with pytest.raises(OptimizeError, match="no row was measured in 2 rounds"):
        conclude(None, script.plan, [])


def test_help_shows_a_study_and_names_every_command(optimize: Run) -> None:
    done = optimize(["--help"])
    assert done.returncode == 0 and "python -m optimize +study=chat" in done.stdout
    assert [verb for verb in VERBS if f"  {verb.removeprefix('optimize.')}  " not in done.stdout] == ["optimize"]


def test_a_value_is_refused_by_the_setting_that_holds_it(tmp_path: Path) -> None:
    config = changed("tables.quantization=[fp16, int3]", f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache")
    with pytest.raises(ConfigError, match=r"^tables\.quantization: unknown quantization 'int3'"):
        run_table("quantization", config, "")
