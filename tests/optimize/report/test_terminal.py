from __future__ import annotations

import dataclasses

import pytest

from optimize.executor.base import Job
from optimize.formatting import printable
from optimize.outcome import Evaluation
from optimize.report.terminal import unconfirmed
from tests.made import Plausible, make_study
from tests.storages import study_at

BUSY = "other programs\x1b[2J used 50% of the processors (load.guard.other_cores_max=0.12)"


class Disturbed(Plausible):
    """Instant workers on a machine that is busy whenever the baseline is confirmed."""

    def evaluate(self, job: Job) -> Evaluation:
        evaluation = super().evaluate(job)
        return dataclasses.replace(evaluation, disturbances=[BUSY] if job.record.confirms == 0 else [])


def test_a_recommendation_tells_how_many_of_its_measurements_were_disturbed(
    quick: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_study([*quick, "study.trials=2", "confirm.candidates=1"], Disturbed)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  disturbed"))
    study = study_at(plan.config.tracking.storage, plan.config.study.name)
    rounds = [t for t in study.trials if "confirms" in t.user_attrs]
    disturbed = [t for t in rounds if t.user_attrs["confirms"] == 0]
    assert 0 < len(disturbed) < len(rounds)
    assert line == (
        f"  disturbed          {len(disturbed)} of the {len(rounds)} measurements in rounds; measure again "
        f"before you rely on it. The last by: {printable(BUSY)}"
    )


def test_the_reason_of_a_failure_commands_no_terminal() -> None:
    last = unconfirmed({3: "refused: \x1b]0;x\x07"}).splitlines()[-1]
    assert last == r"trial 3 could not be measured again: refused: \x1b]0;x\x07"
