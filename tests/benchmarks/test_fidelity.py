"""The fidelity benchmark tells a loss from noise, says by how many prompts, and breaks a checkpoint in one place."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import fidelity
from benchmarks.fidelity import Answers, doubled, floor_table, loss_table, measured, prompts_needed
from objectives.quality import ExactMatch, FirstDifference

ROWS = 60
REFERENCE = {row: f"the old dog number {row} sleeps in the red house" for row in range(ROWS)}


def _answers(changed: float, seed: int) -> Mapping[int, str]:
    rng = random.Random(seed)
    return {row: text[:-5] + "hut" if rng.random() < changed else text for row, text in REFERENCE.items()}


BASELINE = Answers([REFERENCE, *(_answers(0.05, seed) for seed in range(5))], {}, 12.0)
REPEATS = [measured(BASELINE, run, REFERENCE) for run in range(1, 6)]


@pytest.fixture(autouse=True)
def _two_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "SCORES", {"identical answers": ExactMatch(), "first difference": FirstDifference()})


def test_a_larger_loss_needs_fewer_prompts() -> None:
    small, large = (measured(Answers([_answers(share, 9)], {}, 1.0), 0, REFERENCE) for share in (0.3, 0.9))
    needed = [int(prompts_needed(ExactMatch(), ours, REPEATS)) for ours in (small, large)]
    assert 5 <= needed[1] < needed[0] <= ROWS


def test_noise_of_the_models_own_size_is_no_loss_and_a_broken_checkpoint_is() -> None:
    alike, broken = (Answers([_answers(share, 9)], {}, 1.0) for share in (0.05, 0.9))
    assert all("within noise | –" in line for line in loss_table("int8", alike, BASELINE, REFERENCE))
    assert all("| a loss |" in line for line in loss_table("broken", broken, BASELINE, REFERENCE))


def test_every_repeat_has_a_line_and_all_together_are_the_floor() -> None:
    lines = floor_table(BASELINE, REFERENCE)
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 2", "| 3", "| 4", "| 5", "| 6", "| **all: the floor**"]


def test_one_layers_scales_are_doubled_in_a_copy(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    names = [f"layers.{i}.{part}.weight_scale" for i in range(3) for part in ("down_proj", "up_proj")]
    folder, scale = tmp_path / "int8", cast(Any, torch.full)((2, 1), 0.5, dtype=torch.bfloat16)
    folder.mkdir()
    save_file({name: scale.clone() for name in names}, folder / "model.safetensors")
    assert doubled(folder, "", tmp_path / "broken") == "layers.1.down_proj"
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "broken"))
    assert [n for n in names if not torch.equal(before[n], after[n])] == ["layers.1.down_proj.weight_scale"]
    assert torch.equal(after["layers.1.down_proj.weight_scale"], 2 * scale)
    with pytest.raises(SystemExit, match="no scales of a layer 'k_proj'"):
        doubled(folder, "k_proj", tmp_path / "other")
