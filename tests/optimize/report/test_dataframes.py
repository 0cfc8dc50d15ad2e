"""Studies as DataFrames, read from the made studies."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.errors import ConfigError
from optimize.report.dataframes import gains, matrix, read_study, studies

pytestmark = pytest.mark.timeout(600)  # the first of these tests makes the studies


def test_a_row_per_trial_with_figures_and_their_intervals(made_studies: Path) -> None:
    trials = read_study("chat", made_studies).trials()
    assert list(trials["role"][:1]) == ["baseline"] and set(trials["state"]) == {"completed"}
    assert (trials["qps_low"] <= trials["qps"]).all() and (trials["qps"] <= trials["qps_high"]).all()


def test_the_recommendation_and_its_gains(made_studies: Path) -> None:
    study = read_study("bulk", made_studies)
    final = study.recommendation()
    assert final is not None and list(gains(final).columns) == ["gain", "low", "high"]
    text = study.in_words()
    assert "recommended for Bulk generation" in text and "kept constraints   Error rate ≤ 0.01" in text
    assert ("this is the default" in text) == final.pick.baseline
    assert "score              1: no measured configuration beats vLLM's defaults" in text and "× the default" in text
    other = study.recommendation({"p99_latency_s": 1.0})
    assert other is not None and other.rounds == 0


def test_requests_and_telemetry_of_a_trial(made_studies: Path) -> None:
    study = read_study("chat", made_studies)
    requests = study.requests(0)
    assert (requests["latency_s"] > 0).all() and (requests["ttft_s"].dropna() <= requests["latency_s"]).all()
    telemetry = study.telemetry(0)
    assert "cpu_cores" in telemetry.columns and telemetry.index.is_monotonic_increasing


def test_studies_side_by_side(made_studies: Path) -> None:
    readers = studies(made_studies)
    table = matrix(readers)
    assert set(table.index) == set(readers) and set(table["model"]) == {"demo", "other"}


def test_an_unknown_study_folder_or_trial_is_an_error_of_one_line(made_studies: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'chat'"):
        read_study("chatt", made_studies)
    with pytest.raises(ConfigError, match="run one first"):
        studies(tmp_path)
    with pytest.raises(ConfigError, match="left no requests.parquet"):
        read_study("chat", made_studies).requests(999)
