"""LoRA adapters as PEFT writes them, for the demo model or another shape, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.packed import ROOT

DEMO = ROOT / "demo/model"


def adapter(folder: Path, *, rank: int = 8, scale: float = 0.05, wider: int = 0, **config: Any) -> Path:
    """An adapter of the demo model's query and value projections.

    Args:
        folder: Where to.
        rank: Its rank.
        scale: Standard deviation of its weights; 0 leaves the model as it is.
        wider: Inputs that its matrices have beyond the demo model's.
        config: Further fields of its configuration.
    """
    folder.mkdir(parents=True)
    rng, tensors = np.random.default_rng(rank), dict[str, Any]()
    for name, weight in load_file(DEMO / "model.safetensors").items():
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            (outputs, inputs), module = weight.shape, f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = rng.normal(0, scale, (rank, inputs + wider)).astype(np.float32)
            tensors[f"{module}.lora_B.weight"] = rng.normal(0, scale, (outputs, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    written = {
        "peft_type": "LORA", "base_model_name_or_path": "somebody/base", "r": rank, "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "v_proj"], "bias": "none", "task_type": "CAUSAL_LM", **config,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(written), encoding="utf-8")
    return folder
