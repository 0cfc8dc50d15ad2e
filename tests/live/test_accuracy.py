"""The live engine and the harness's own transformers backend score alike."""

from __future__ import annotations

import math
import statistics

import pytest

from objectives.accuracy import Accuracy
from optimize.engine.vllm_engine import VllmEngine
from optimize.evaluation.task_scores import longest_sequence
from optimize.harness.process import Backend, evaluate, served_by
from tests.live.engines import MODEL

pytestmark = pytest.mark.live
ACCURACY = Accuracy(limit=20)


@pytest.mark.slow
def test_accuracy_through_the_engine_equals_that_of_transformers(plain_engine: VllmEngine) -> None:
    endpoint = plain_engine.endpoint
    dtype = str(plain_engine.effective(["dtype"])["dtype"]).removeprefix("torch.")
    ours = evaluate(ACCURACY, served_by(endpoint, MODEL, longest_sequence(endpoint)))["everyday"]
    theirs = evaluate(ACCURACY, Backend("hf", {"pretrained": MODEL, "dtype": dtype, "device": "cpu"}))["everyday"]
    assert ours.hash == theirs.hash and len(ours.scores) == len(theirs.scores) == ACCURACY.limit
    error = statistics.stdev(theirs.scores) / math.sqrt(len(theirs.scores))
    assert statistics.fmean(ours.scores) == pytest.approx(statistics.fmean(theirs.scores), abs=error)
    assert ours.reported == pytest.approx(statistics.fmean(ours.scores))
    assert sum(map(float.__ne__, ours.scores, theirs.scores)) <= 1  # options that are likely alike, after rounding
