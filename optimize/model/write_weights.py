"""The child process that makes a model of random weights; reads its job as JSON from standard input.

A process of its own, so that torch's memory and threads end with it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from optimize.engine.reaper import end_with_parent
from optimize.errors import one_line

_DTYPE = "float16"
_SHARD = "2GB"


def write_model(job: dict[str, Any], folder: Path) -> None:
    """Write configuration and weights of any architecture that transformers has.

    Args:
        job: `config`, the fields of its config.json; `seed`; `std` of the weights. transformers itself decides which of
            them are random: norms and biases begin as in training; `dummy`, to write the configuration alone.
        folder: Where to.

    Raises:
        Exception: whatever transformers raises for fields that do not fit together.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {"dtype": _DTYPE, "initializer_range": job["std"], **job["config"]}
    config = AutoConfig.for_model(**fields)
    if job.get("dummy"):
        config.save_pretrained(folder)
        return
    torch.manual_seed(job["seed"])
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, fields["dtype"]))
    model.save_pretrained(folder, max_shard_size=_SHARD)


def main(parent: int) -> None:
    end_with_parent(parent)
    job = json.load(sys.stdin)
    try:
        write_model(job, Path(job["folder"]))
    except Exception as error:  # of whatever kind, it is about the fields
        sys.exit(f"{type(error).__name__}: {one_line(error)}")


if __name__ == "__main__":
    main(int(os.environ["OPTIMIZE_PARENT"]))
