"""The lm-evaluation-harness itself, as its lock pins it, behaves as the quick tests take for granted."""

from __future__ import annotations

import pytest

from objectives.accuracy import Accuracy
from optimize.errors import ConfigError
from optimize.harness.process import Backend, HarnessError, describe, evaluate

pytestmark = pytest.mark.slow


def test_the_shipped_task_is_loaded_without_a_network_and_scores_as_the_harness_reports_it() -> None:
    result = evaluate(Accuracy(metric="acc_norm"), Backend("dummy", {}))["everyday"]
    assert str(result).startswith("1.0 (300 documents, ")
    assert result.reported == pytest.approx(sum(result.scores) / 300) and set(result.scores) == {0.0, 1.0}


def test_a_name_that_the_harness_does_not_know_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="accuracy: the harness has no task 'arc_eas'; did you mean 'arc_easy'?"):
        describe(Accuracy(["arc_eas"]), "accuracy")


def test_a_backend_that_fails_gives_its_reason() -> None:
    with pytest.raises(HarnessError, match="nowhere"):
        evaluate(Accuracy(limit=2), Backend("hf", {"pretrained": "/nowhere", "device": "cpu"}))
