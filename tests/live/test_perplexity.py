"""The live engine and transformers agree on how likely the references are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from demo.evaluate import read, reference_logprobs
from optimize.engine.base import EngineConfig
from optimize.engine.vllm import VllmLauncher
from optimize.evaluation.perplexity import ask
from tests.live.test_engine import FLAGS, MODEL, ROOT

pytestmark = pytest.mark.live
ROWS = 60


def test_perplexity_through_the_engine_is_that_of_transformers(live_vllm: VllmLauncher, tmp_path: Path) -> None:
    rows = read(ROOT / "demo/workloads/chat.jsonl")[:ROWS]
    prompts, references = [r["prompt"] for r in rows], [r["reference"] for r in rows]
    engine = live_vllm.launch(EngineConfig(MODEL, "fp16", (*FLAGS, ("max_num_seqs", 16))), tmp_path / "log")
    try:
        ours = ask(engine.endpoint, prompts, references)
    finally:
        engine.stop()
    theirs = reference_logprobs(Path(MODEL), prompts, references)
    assert {row: tokens for row, (_, tokens) in ours.items()} == {row: tokens for row, (_, tokens) in theirs.items()}
    one, other = (
        math.exp(-sum(t for t, _ in found.values()) / sum(n for _, n in found.values())) for found in (ours, theirs)
    )
    assert one == pytest.approx(other, rel=0.01)
    for row, (total, tokens) in ours.items():
        assert total / tokens == pytest.approx(theirs[row][0] / tokens, abs=0.05)
