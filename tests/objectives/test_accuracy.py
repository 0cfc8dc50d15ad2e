"""Accuracy from the scores of a harness: intervals, several tasks, pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from objectives import Measurement
from objectives.accuracy import Accuracy
from objectives.intervals import proportion_interval


def _measured(accuracy: Accuracy, scores: Mapping[str, Sequence[float]]) -> Measurement:
    return Measurement([], 0, 0, {}, task_scores={accuracy.key: scores})


def test_one_tasks_accuracy_has_wilsons_interval() -> None:
    accuracy = Accuracy()
    estimate = accuracy.estimate(_measured(accuracy, {"everyday": [1.0] * 30 + [0.0] * 10}))
    assert estimate is not None and (estimate.value, estimate.n, estimate.unit) == (0.75, 40, "share")
    assert (estimate.value, estimate.low, estimate.high) == proportion_interval(30, 40)


def test_every_task_weighs_the_same_however_many_documents_it_has() -> None:
    accuracy = Accuracy(tasks=["large", "small"])
    measured = _measured(accuracy, {"large": [1.0] * 300, "small": [0.0] * 30 + [1.0] * 10})
    estimate = accuracy.estimate(measured)
    assert estimate is not None and estimate.value == pytest.approx((1 + 0.25) / 2)
    assert 0.5 < estimate.low < estimate.value < estimate.high < 0.75  # only the small task's documents vary


def test_scores_between_zero_and_one_have_the_bootstraps_interval() -> None:
    accuracy = Accuracy(metric="f1")
    scores = np.random.default_rng(1).uniform(size=200)
    estimate = accuracy.estimate(_measured(accuracy, {"everyday": list(scores)}))
    assert estimate is not None and estimate.value == pytest.approx(scores.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * scores.std() / 200**0.5, rel=0.2)


def test_a_difference_is_judged_document_by_document() -> None:
    accuracy = Accuracy()
    ours = np.random.default_rng(2).integers(0, 2, 300).astype(float)
    theirs = ours.copy()
    theirs[np.flatnonzero(ours)[:12]] = 0.0  # twelve answers are lost, and none is won
    paired = accuracy.paired(*(_measured(accuracy, {"everyday": list(scores)}) for scores in (theirs, ours)))
    assert paired is not None and paired.difference.value == pytest.approx(-12 / 300)
    assert paired.significant and paired.difference.high < 0  # far narrower than the two intervals apart
    alone = accuracy.estimate(_measured(accuracy, {"everyday": list(ours)}))
    assert alone is not None and paired.difference.high - paired.difference.low < (alone.high - alone.low) / 2


def test_documents_of_different_tasks_are_never_paired() -> None:
    accuracy = Accuracy(tasks=["a", "b"])
    rows = accuracy.statistics(_measured(accuracy, {"a": [1.0, 0.0], "b": [1.0]}))
    assert {row: list(values) for row, values in rows.items()} == {
        0: [1.0, 1.0, 0.0, 0.0], 2: [0.0, 1.0, 0.0, 0.0], 1: [0.0, 0.0, 1.0, 1.0],
    }  # fmt: skip


def test_a_measurement_without_scores_has_no_accuracy() -> None:
    accuracy = Accuracy()
    assert accuracy.estimate(Measurement([], 0, 0, {})) is None
    assert accuracy.estimate(_measured(Accuracy(limit=20), {"everyday": [1.0, 0.0]})) is None  # of other settings


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"tasks": []}, "at least one task"),
        ({"tasks": ["a", "a"]}, "each once"),
        ({"limit": 1}, "limit must be at least 2, got 1"),
        ({"num_fewshot": -1}, "num_fewshot must not be negative, got -1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fields: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Accuracy(**fields)  # type: ignore[arg-type]
