"""The live engine and transformers agree on how likely the references are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from optimize.engine.vllm_engine import VllmEngine
from optimize.evaluation.perplexity import score_references
from tests.live.engines import MODEL, ROOT

pytestmark = pytest.mark.live
ROWS = 60


def test_perplexity_of_the_engine_equals_that_of_transformers(plain_engine: VllmEngine) -> None:
    from demo.evaluate import read, reference_logprobs  # imports transformers, as none need do that only collects tests

    rows = read(ROOT / "demo/workloads/chat.jsonl")[:ROWS]
    prompts, references = [r["prompt"] for r in rows], [r["reference"] for r in rows]
    ours = score_references(plain_engine.endpoint, prompts, references)
    theirs = reference_logprobs(Path(MODEL), prompts, references)
    assert {row: tokens for row, (_, tokens) in ours.items()} == {row: tokens for row, (_, tokens) in theirs.items()}
    one, other = (
        math.exp(-sum(t for t, _ in scores.values()) / sum(n for _, n in scores.values())) for scores in (ours, theirs)
    )
    assert one == pytest.approx(other, rel=0.01)
    for row, (total, tokens) in ours.items():
        assert total / tokens == pytest.approx(theirs[row][0] / tokens, abs=0.05)
