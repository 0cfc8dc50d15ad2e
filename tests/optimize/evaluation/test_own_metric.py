"""A workload that is no translation, scored by exact match and by a user's own function: a study from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from optimize.ledger import Ledger
from tests.conftest import Run


def first_letter(answer: str, reference: str) -> float:
    """The user's function: half the credit for the first letter alone."""
    return (float(answer == reference) + float(answer[:1] == reference[:1])) / 2


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Yes-or-no questions of one word: the stand-in repeats the word, or drops it and says "nothing"."""
    path = tmp_path / "questions.jsonl"
    rows = [{"question": word, "label": word} for word in (f"{kind}{n}" for n in range(60) for kind in ("yes", "no"))]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.timeout(120)
def test_a_study_of_another_kind(optimize: Run, simulated: list[str], questions: Path, tmp_path: Path) -> None:
    options = [
        f"workload.path={questions}", "workload.prompt_column=question", "workload.reference_column=label",
        "objectives=[qps,exact_match]", "+scenario.weights.exact_match=4", "scenario.weights.qps=0.01",
        f"+objectives.mine={{_target_: objectives.quality.UserMetric, function: {__name__}.first_letter,"
        " unit: points}",
        "+constraints.exact_match={min_ratio: 0.5}", "sampler=grid", "search_space.batch_size={low: 8, high: 8}",
        "search_space.beam_size.choices=[1,4]", "+baseline.batch_size=8", "study.trials=2", "study.cut_short=false",
        "workload.max_tokens=4",
    ]  # fmt: skip
    done = optimize([*simulated, *options])
    assert done.returncode == 0, done.stderr
    records = {r.params["beam_size"]: r for r in Ledger(tmp_path / "out/studies/smoke").records()}
    greedy, beams = records[1], records[4]
    share = beams.estimates["exact_match"]
    assert share.unit == "share" and share.low <= share.value <= share.high <= 1
    assert share.value > greedy.estimates["exact_match"].value  # it answers better with more beams
    points = beams.estimates["mine"]
    assert points.unit == "points" and points.value >= share.value
    assert beams.violations["exact_match >= 0.5 x baseline"] < 0

    compared = beams.paired["exact_match"]
    assert compared["difference"]["value"] > 0 and compared["difference"]["n"] > 10
    assert greedy.paired["exact_match"]["p"] == 1.0  # the baseline with itself
    assert "common answers, p =" in done.stdout
    row = json.loads((tmp_path / "out/matrix.json").read_text())[0]
    assert {"exact_match", "mine"} <= set(row["estimates"])
    gain = row["gains_over_vllm_defaults"]["exact_match"]
    assert row["params"]["beam_size"] == 4
    assert gain["value"] == pytest.approx(compared["ratio"]["value"]) and math.isfinite(gain["high"])
