"""Answers of both sides in pairs: each side has its own, though no key tells them apart."""

from __future__ import annotations

from pathlib import Path

from objectives import RequestRecord
from objectives.quality import Bleu
from optimize.guard.change import Verdict
from optimize.guard.quality import SideAnswers, changes_of
from optimize.guard.sides import OTHER, ROW, Side
from optimize.study.target import Target
from tests.optimize.evaluation.scripted import CONFIG, METRICS, WORKLOAD, Rig


def record(row: int, text: str, error: str | None = None) -> RequestRecord:
    return RequestRecord(row, 0.0, 0.0, None, 1.0, 5, 5, text, error)


def answered(**texts: str) -> SideAnswers:
    answers = SideAnswers()
    answers.add("key", [record(int(name[1:]), text) for name, text in texts.items()], baseline=False)
    return answers


def verdict_of(folder: Path, ours: SideAnswers, theirs: SideAnswers) -> Verdict | None:
    plan = Rig(folder, metrics={**METRICS, "bleu": Bleu()}).plan
    row, other = (Side(name, plan, Target("row", {}, CONFIG)) for name in (ROW, OTHER))
    changes = changes_of(row, other, {ROW: theirs, OTHER: ours}, None)
    return changes["bleu"].verdict(0.05, 0.01, 0.01) if changes else None


REFERENCES = {f"r{i}": text for i, text in enumerate(WORKLOAD.references)}
WRONG = dict.fromkeys(REFERENCES, "a cat eats no mouse here")


def test_equal_answers_pass_and_wrong_ones_fail(tmp_path: Path) -> None:
    right = answered(**REFERENCES)
    assert verdict_of(tmp_path, answered(**REFERENCES), right) is Verdict.PASS
    assert verdict_of(tmp_path, answered(**{**REFERENCES, **dict(list(WRONG.items())[:30])}), right) is Verdict.FAIL
    assert verdict_of(tmp_path, SideAnswers(), right) is None


def test_the_first_answer_to_a_prompt_counts_and_a_failure_is_none() -> None:
    answers = SideAnswers()
    answers.add("key", [record(1, "", "timeout"), record(2, "two")], baseline=False)
    answers.add("another key", [record(1, "one"), record(2, "second")], baseline=False)
    assert answers.of("whatever") == {1: "one", 2: "two"} and answers.baseline is None
