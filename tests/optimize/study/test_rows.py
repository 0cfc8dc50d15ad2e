"""Bad input to the verbs that start from a study's row: one line, exit code 2."""

from pathlib import Path

import pytest

from objectives import Estimate
from optimize.decision.recommendation import Candidate, Recommendation
from optimize.errors import ConfigError
from optimize.study.rows import pick
from tests.conftest import Run
from tests.made import make_study
from tests.optimize.config.test_bad_input import refusal


@pytest.mark.parametrize("verb", ["optimize.deploy", "optimize.price"])
def test_missing_study(optimize: Run, tmp_path: Path, verb: str) -> None:
    message = refusal(optimize(["+study=chat", f"output_dir={tmp_path}"], verb=verb))
    assert "holds no study 'chat': run it first" in message


@pytest.mark.parametrize(
    ("verb", "override", "message"),
    [
        ("optimize.price", "hardware.hourly_usd=-1", "hardware.hourly_usd must be positive or null, got -1"),
        (
            "optimize.price",
            "instances.aws_p4d.hourly_usd=0",
            "aws_p4d.hourly_usd must be positive or null, got 0",
        ),
        ("optimize.price", "hardware=aws_p9", "hardware has no choice 'aws_p9'"),
        ("optimize.price", "+price.factors.aws_p4=2", "did you mean 'aws_p4d'"),
        ("optimize.deploy", "deploy.port=0", "deploy.port must be from 1 to 65535"),
        ("optimize.deploy", "alerts.queue_s.warn=5", "alerts.queue_s"),
        ("optimize.deploy", "deploy.fodler=x", "did you mean 'folder'"),
        (
            "optimize",
            "objectives=[qps,p99_latency_s,usd_per_million_tokens]",
            "objectives.usd_per_million_tokens: hourly_usd must be",
        ),
        ("optimize", "constraints=cost", "usd_per_million_tokens: hourly_usd must be a positive price"),
    ],
)
def test_settings(optimize: Run, tmp_path: Path, verb: str, override: str, message: str) -> None:
    folders = [f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache"]
    assert message in refusal(optimize(["+study=chat", *folders, override], verb=verb))


def test_a_row_that_does_not_fit(optimize: Run, simulated: list[str]) -> None:
    trial = ["study.trials=1", "hardware.hourly_usd=1.5", "constraints=cost", "search_space.beam_size.choices=[1]"]
    make_study([*simulated, *trial])
    assert "usd_per_million_tokens" in Path(simulated[5].partition("=")[2], "matrix.json").read_text()
    for overrides, message in (
        (["model=llama3_8b"], "was measured with model demo, not llama3_8b"),
        ([f"model.path={simulated[5].partition('=')[2]}"], "give the model it belongs to"),
        (["row=99"], "row=99 is no row of study 'smoke'"),
        ([], "has no command to deploy"),
        (["deploy.folder=/proc/version/x"], "cannot write to /proc/version/x"),
    ):
        assert message in refusal(optimize([*simulated, *overrides, "deploy.verify=false"], verb="optimize.deploy"))
    priced = optimize([*simulated, "hardware.hourly_usd=1.5", "row=1"], verb="optimize.price")
    assert priced.returncode == 0 and "trial 1" in priced.stdout and "measured on this machine" in priced.stdout


ONE = Estimate(1.0, 1.0, 1.0, 1, "x")


def candidate(number: int, baseline: bool = False) -> Candidate:
    return Candidate(number, {"batch_size": number}, {}, True, baseline)


EVERY = [candidate(0, baseline=True), candidate(3), candidate(7)]


def result(runner_up: bool = True) -> Recommendation:
    other = EVERY[2] if runner_up else None
    return Recommendation(EVERY[1], ONE, {}, other, False, EVERY[1:], EVERY, {})


@pytest.mark.parametrize(("row", "number"), [("recommended", 3), ("runner-up", 7), ("baseline", 0), ("7", 7)])
def test_a_row_is_named_by_its_place_or_its_trial(row: str, number: int) -> None:
    assert pick(row, result(), EVERY, "chat").number == number


@pytest.mark.parametrize(
    ("row", "message"),
    [("best", "recommended, runner-up"), ("4", "0, 3, 7")],
)
def test_an_unknown_row_is_refused_with_the_rows_there_are(row: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pick(row, result(), EVERY, "chat")


def test_a_missing_runner_up_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no row of study 'chat'"):
        pick("runner-up", result(runner_up=False), EVERY, "chat")
