"""Tables measured on the simulated engine, as a user would ask for them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from objectives import Estimate
from optimize.ledger import Ledger
from tests.conftest import Run


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


@pytest.mark.timeout(120)
def test_measurements_on_disk_are_scored_and_shown_again_without_an_engine(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    words = ["batch_size", *simulated, "tables.batch_size=[1,4]", "repeats=2"]
    assert optimize(words, verb="optimize.tables").returncode == 0
    (study,) = (tmp_path / "out/studies").iterdir()
    before = (study / "report/table.csv").read_text()
    engines = sorted((study / "engines").iterdir())
    ledger = Ledger(study)
    for record in ledger.records():  # as a release with another idea of a rate would have written it
        ledger.write(replace(record, estimates={**record.estimates, "qps": Estimate(999.0, 999.0, 999.0, 50, "1/s")}))
    again = optimize([*words, f"tables.again={study.name}"], verb="optimize.tables")
    assert again.returncode == 0, again.stderr
    assert "Effect of batch_size" in again.stdout
    assert (study / "report/table.csv").read_text() == before
    assert sorted((study / "engines").iterdir()) == engines
    others = optimize([*words[:-2], "tables.batch_size=[2,3]", f"tables.again={study.name}"], verb="optimize.tables")
    assert others.returncode == 2 and "holds no measurements of these rows" in others.stderr


@pytest.mark.timeout(120)
def test_a_table_of_beams_compares_answers_in_pairs(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    metric = "+metrics.exact_match={_target_: objectives.quality.ExactMatch}"
    options = ["tables.beam_size=[1,4]", "repeats=2", metric]
    done = optimize(["beam_size", *simulated, *options], verb="optimize.tables")
    assert done.returncode == 0, done.stderr
    (study,) = (tmp_path / "out/studies").iterdir()
    found = json.loads((study / "report/table.json").read_text())
    one, four = found["rows"]
    assert four["bleu"] > one["bleu"] and four["bleu.p"] < 0.01  # the stand-in answers better with more beams
    assert four["bleu.difference.low"] > 0
    assert "“More beams always answer better”: holds here for 1 to 4" in " ".join(found["folklore"])
    assert "exact match" in done.stdout


def test_a_first_row_that_cannot_run_leaves_the_others(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    options = ["tables.batch_size=[8,2,1]", "repeats=2", "engine.oom_above_seqs=4"]
    done = optimize(["batch_size", *simulated, *options], verb="optimize.tables")
    assert done.returncode == 0, done.stderr
    assert "device_oom" in done.stdout
    (study,) = (tmp_path / "out/studies").iterdir()
    rows = json.loads((study / "report/table.json").read_text())["rows"]
    assert rows[0]["refused"].startswith("device_oom") and "qps.change" not in rows[1] and "qps.change" in rows[2]


def test_nothing_measured_is_no_table(optimize: Run, simulated: list[str]) -> None:
    options = ["tables.batch_size=[8,16]", "repeats=2", "engine.oom_above_seqs=4"]
    done = optimize(["batch_size", *simulated, *options], verb="optimize.tables")
    assert done.returncode == 1 and "no row was measured" in done.stderr


def test_help_is_hydras(optimize: Run) -> None:
    assert optimize(["--help"], verb="optimize.tables").returncode == 0
