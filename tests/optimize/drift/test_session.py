"""`python -m optimize.drift` on stored studies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optimize.config.schema import StudyConfig, StudySettings, Tracking
from optimize.drift.reference import reference_of
from optimize.errors import ConfigError
from optimize.study.lifecycle import stored_studies
from tests.conftest import ROOT, Run
from tests.optimize.config.test_bad_input import refusal


def config_of(made: Path, study: str, row: str = "recommended") -> StudyConfig:
    storage = Tracking(storage=f"sqlite:///{made}/optuna.db")
    return StudyConfig(study=StudySettings(name=study), tracking=storage, output_dir=str(made), row=row)


def test_a_confirmed_row_is_what_its_rounds_measured(made_studies: Path) -> None:
    reference = reference_of(config_of(made_studies, "chat"))
    assert reference.rounds == 2 and "+study=chat" in reference.words
    assert reference.lengths("prompt_tokens") == [20.0] * 60  # each prompt once, however many rounds have sent it
    assert set(reference.means) == {"latency_s", "ttft_s", "tpot_s"}
    mean = reference.means["latency_s"]
    assert mean.low <= mean.value <= mean.high and mean.n == 2


def test_a_row_without_rounds_is_a_single_measurement(made_studies: Path) -> None:
    reference = reference_of(config_of(made_studies, "bulk"))
    assert reference.rounds == 0 and len(reference.requests) == 60
    assert reference.means["latency_s"].n > 2


def test_a_row_with_beams_is_refused(made_studies: Path) -> None:
    studies = {s.study_name: s for s in stored_studies(f"sqlite:///{made_studies}/optuna.db")}
    name, number = next(
        (name, trial.number)
        for name, study in studies.items()
        for trial in study.get_trials()
        if trial.user_attrs["config"]["request"]["beam_size"] > 1 and "confirms" not in trial.user_attrs
    )
    with pytest.raises(ConfigError, match="beams, of which vLLM counts each token as a request"):
        reference_of(config_of(made_studies, name, str(number)))


def test_the_command_judges_a_scrape_and_says_it_in_files(optimize: Run, made_studies: Path) -> None:
    words = ["+study=abtest", f"output_dir={made_studies}", f"drift.scrape=[{ROOT}/tests/data/metrics.txt]"]
    done = optimize(words, verb="optimize.drift")
    folder = made_studies / "studies/abtest/report"
    assert (folder / "drift.md").read_text(encoding="utf-8") in done.stdout
    verdicts = json.loads((folder / "drift.json").read_text(encoding="utf-8"))
    holds = {claim["claim"]: claim["holds"] for claim in verdicts["claims"]}
    assert verdicts["busy"] == 1 and {"prompt_tokens", "output_tokens", "p99_latency_s"} <= set(holds)
    assert done.returncode == (3 if all(holds.values()) else 1), done.stderr


def test_without_a_record_the_command_names_the_other_sources(optimize: Run, made_studies: Path) -> None:
    message = refusal(optimize(["+study=abtest", f"output_dir={made_studies}"], verb="optimize.drift"))
    assert "optimize.serve has kept no record of study 'abtest'" in message and "drift.prometheus=" in message
    words = ["+study=abtest", f"output_dir={made_studies}", "drift.scrape=[nofile.txt]"]
    assert "drift.scrape=nofile.txt cannot be read (No such file" in refusal(optimize(words, verb="optimize.drift"))
