"""What tests of other things compose together is what Hydra composes."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from optimize.config import schema
from optimize.config.compose import composed, to_typed
from tests import compositions

WORDS = [
    "+study=chat", "objectives=[qps,bleu]", "study.trials=5", "+engine.flags.block_size=32", "~search_space.beam_size",
    "scenario={name: mine}",
]  # fmt: skip


def test_a_shared_composition_is_hydras_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = composed(WORDS)
    compositions.share(monkeypatch)
    for _ in range(2):
        shared = composed(WORDS)
        assert to_typed(shared) == to_typed(expected)
        assert OmegaConf.to_yaml(shared) == OmegaConf.to_yaml(expected)
        assert (OmegaConf.is_struct(shared), OmegaConf.get_type(shared)) == (True, schema.StudyConfig)
        shared.study.trials = 99
    assert composed([*WORDS, "study.trials=7"]).study.trials == 7


def test_files_of_a_user_are_not_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compositions.share(monkeypatch)
    (tmp_path / "study").mkdir()
    for trials in (3, 4):
        (tmp_path / "study/mine.yaml").write_text(f"# @package _global_\nstudy: {{name: mine, trials: {trials}}}\n")
        assert composed([f"--config-dir={tmp_path}", "+study=mine"]).study.trials == trials
