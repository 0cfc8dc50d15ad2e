"""A study whose answers are scored against the unquantized model's own: asked once, said everywhere, kept."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from optimize.errors import FailureKind, OptimizeError
from optimize.evaluation.references import FILE, References, kept_references
from optimize.executor.worker import Answered, JobError
from optimize.outcome import Infeasible
from optimize.plan import Plan
from optimize.study.noise_floor import noise_floor_of
from optimize.testing.instant_workers import Instant
from tests.conftest import Run
from tests.made import make_study
from tests.storages import study_at

AGAINST = "against the unquantized model's own answers"


class Unquantized(Instant):
    """Instant workers of a model that repeats itself but for one prompt."""

    asked = 0
    texts: Sequence[str] = [f"the old red dog number {row} sees the house" for row in range(20)]

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        if method != "references":
            super().send(slot, method, *arguments)
            return
        type(self).asked += 1
        first = dict(enumerate(self.texts))
        self._messages.append((slot, Answered(References("k", [first, first | {3: "the old red dog sleeps"}], 42.0))))


@pytest.fixture
def overrides(simulated: list[str]) -> list[str]:
    Unquantized.asked = 0
    return [*simulated, "quality.reference=baseline", "study.trials=1", "confirm.candidates=0"]


def _stored(plan: Plan) -> optuna.Study:
    return study_at(plan.config.tracking.storage, plan.config.study.name)


def test_the_model_is_asked_once_and_the_terminal_and_the_report_say_what_scores_are_against(
    overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_study(overrides, Unquantized)
    output = " ".join(capsys.readouterr().out.split())
    assert Unquantized.asked == 1
    assert f"quality is {AGAINST}: 20 prompts answered 2 times in 42 s; its own repeats reach BLEU 9" in output
    assert f"quality {AGAINST}; its own repeats reach" in output  # below the recommendation
    page = (plan.folder / "report/report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    assert f"BLEU {AGAINST}</h3>" in page
    assert f"Quality is {AGAINST}: its own repeats reach BLEU" in page
    assert "20 prompts answered 2 times in 42 s" in page
    references, floor = kept_references(plan), noise_floor_of(_stored(plan))
    assert references is not None and floor is not None
    signatures = [t.user_attrs["signature"] for t in _stored(plan).trials]
    assert {(s["quality"], s["references"]) for s in signatures} == {(AGAINST, references.hash)}
    assert 80 < floor.scores["bleu"].low < floor.scores["bleu"].value < 100


def test_a_study_that_goes_on_scores_against_the_same_answers(overrides: list[str]) -> None:
    plan = make_study(overrides, Unquantized)
    before = kept_references(plan)
    resumption = make_study([*overrides, "study.trials=2"], Unquantized)
    assert Unquantized.asked == 1 and kept_references(resumption) == before
    assert len({t.user_attrs["signature"]["references"] for t in _stored(plan).trials}) == 1


def test_answers_that_were_lost_and_are_others_now_are_noted(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_study(overrides, Unquantized)
    (plan.folder / FILE).unlink()
    shutil.rmtree(Path(plan.config.cache_dir) / "references")
    monkeypatch.setattr(Unquantized, "texts", [f"{text} today" for text in Unquantized.texts])
    capsys.readouterr()
    make_study([*overrides, "study.trials=2"], Unquantized)
    output = " ".join(capsys.readouterr().out.split())
    assert Unquantized.asked == 2
    assert "reference answers of this study are lost and were asked anew" in output
    assert "warning: these figures differ in more than the configuration (references:" in output


def test_a_model_that_gives_no_reference_ends_the_study_with_the_reason_and_a_remedy(overrides: list[str]) -> None:
    class Refusing(Instant):
        def send(self, slot: int, method: str, *arguments: Any) -> None:
            refused = Infeasible(FailureKind.REFUSED, "the engine refuses such requests: no chat template")
            self._messages.append((slot, JobError(refused)))

    with pytest.raises(OptimizeError) as error:
        make_study(overrides, Refusing)
    assert "no chat template" in str(error.value) and "quality.reference=workload" in str(error.value)


def test_a_study_of_the_other_reference_is_not_resumed(overrides: list[str]) -> None:
    make_study(overrides, Unquantized)
    with pytest.raises(OptimizeError, match="quality"):
        make_study([word for word in overrides if not word.startswith("quality")], Unquantized)


def test_prompts_alone_are_enough_for_a_whole_study(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    """On the simulated engine: its answers to the same prompt are the same, so its noise floor is perfect."""
    path = tmp_path / "bare.jsonl"
    path.write_text("".join(f'{{"prompt": "the old dog sees house {i}"}}\n' for i in range(12)), encoding="utf-8")
    words = [word for word in simulated if not word.startswith("workload")]
    done = optimize([*words, "workload=file", f"workload.path={path}", "study.trials=0", "confirm.candidates=0"])
    assert done.returncode == 0, done.stderr
    assert f"quality is {AGAINST}: 12 prompts answered 2 times" in " ".join(done.stdout.split())
