"""The child process that runs llm-compressor; reads jobs as JSON from standard input.

A process of its own, so that torch's memory and threads end with it, and its chatter goes to a log.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from optimize.checkpoint import content_hash, tensor_bytes


def compress(job: dict[str, Any]) -> None:
    """Make one checkpoint: in a folder aside, moved into place when whole."""
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from transformers import AutoModelForCausalLM, AutoTokenizer

    began, folder = time.monotonic(), Path(job["folder"])
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=job["dtype"])
    oneshot(
        model=model,
        recipe=QuantizationModifier(targets="Linear", scheme=job["scheme"], ignore=job["ignore"]),
    )
    model.save_pretrained(partial, save_compressed=True)
    AutoTokenizer.from_pretrained(job["model"]).save_pretrained(partial)
    manifest = {
        **{key: job[key] for key in ("model", "scheme", "ignore", "dtype")},
        "model_hash": content_hash(job["model"]),
        "tensor_bytes": tensor_bytes(str(partial)),
        "seconds": round(time.monotonic() - began, 2),
        "versions": {
            name: importlib.metadata.version(name) for name in ("llmcompressor", "compressed-tensors", "torch")
        },
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def main() -> None:
    for job in json.load(sys.stdin):
        error = Path(job["folder"]).with_suffix(".error")
        error.unlink(missing_ok=True)
        try:
            compress(job)
        except Exception as reason:  # one recipe that cannot be made must not keep the others from being made
            error.write_text(f"{type(reason).__name__}: {reason}", encoding="utf-8")
            print(f"{job['scheme']}: {reason!r}", file=sys.stderr)


if __name__ == "__main__":
    main()
