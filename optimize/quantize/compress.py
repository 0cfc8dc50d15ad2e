"""The child process that runs llm-compressor; reads jobs as JSON from standard input, writes its steps as JSON lines.

A process of its own, so that torch's memory and threads end with it, and its output goes to a log.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from optimize.checkpoint import quantized_format, tensor_bytes
from optimize.entries import draft, publish
from optimize.model.manifest import write_manifest
from optimize.quantize.groups import fitted
from optimize.quantize.layers import layer_precisions
from optimize.quantize.without_weights import has_weights, one_layer, write_configuration
from optimize.redaction import redact, redacted_streams, register_environment

STEPS = ("loading", "compressing", "saving", "checking")
"""Steps of making one checkpoint, in order."""
_PR_SET_PDEATHSIG = 1
Emit = Callable[..., None]


def compress(job: dict[str, Any], emit: Emit) -> None:
    """Make one checkpoint, in a folder of another name that is renamed when complete."""
    began, folder = time.monotonic(), Path(job["folder"])
    _check_unquantized(job["source"])
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer

    partial = draft(folder)
    emit(step="loading")
    tokenizer, dtype = AutoTokenizer.from_pretrained(job["source"]), job["recipe"]["dtype"]
    is_whole = has_weights(job["source"])
    model = (
        AutoModelForCausalLM.from_pretrained(job["source"], dtype=dtype)
        if is_whole
        else one_layer(job["source"], dtype, len(tokenizer))
    )
    data = _dataset(job, tokenizer) if job["samples"] else None
    emit(step="compressing")
    with _calibration_progress(model, len(job["samples"]), emit):
        oneshot(model=model, recipe=fitted(job["recipe_text"], _widths(model)), **(data or {}))
    emit(step="saving")
    if is_whole:
        model.save_pretrained(partial, save_compressed=True)
    else:
        precisions = write_configuration(model, job["source"], partial)
    tokenizer.save_pretrained(partial)
    emit(step="checking")
    precisions = layer_precisions(partial) if is_whole else precisions
    facts = {
        **{key: job[key] for key in ("model", "model_hash", "recipe", "recipe_text", "calibration_hash")},
        "calibration_samples": len(job["samples"]),
        "tensor_bytes": tensor_bytes(str(partial)),
        "layers": {name: asdict(precision) for name, precision in precisions.items()},
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("llmcompressor", "compressed-tensors", "torch", "transformers")
        },
        "made_at": time.time(),
        "seconds": round(time.monotonic() - began, 2),
    }
    write_manifest(partial, facts)
    publish(partial, folder)


def _widths(model: Any) -> set[int]:
    import torch

    return {module.in_features for module in model.modules() if isinstance(module, torch.nn.Linear)}


def _check_unquantized(model: str) -> None:
    """For a model of a hub, whose configuration nobody could read before."""
    if "/" in model and not Path(model).exists():
        from transformers import AutoConfig

        AutoConfig.from_pretrained(model)
    if kind := quantized_format(model):
        raise ValueError(f"the model is quantized already ({kind})")


def _dataset(job: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The calibration samples as llm-compressor takes them: tokenized, cut, in their order."""
    from datasets import Dataset

    most = int(job["recipe"]["calibration_tokens"])
    texts = [
        s if isinstance(s, str) else tokenizer.apply_chat_template(s, tokenize=False) for s in job["samples"]
    ]  # a chat template writes the special tokens itself
    special = [isinstance(s, str) for s in job["samples"]]
    rows = [
        dict(tokenizer(text, truncation=True, max_length=most, add_special_tokens=add))
        for text, add in zip(texts, special, strict=True)
    ]
    return {
        "dataset": Dataset.from_list([{k: r[k] for k in ("input_ids", "attention_mask")} for r in rows]),
        "num_calibration_samples": len(rows),
        "max_seq_length": most,
        "shuffle_calibration_samples": False,
    }


@contextmanager
def _calibration_progress(model: Any, samples: int, emit: Emit) -> Iterator[None]:
    """Emit the share of calibration done, five times a second: llm-compressor runs each layer twice on each sample."""
    import torch

    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    calls, emitted_at = 0, time.monotonic()

    def count(*_: object) -> None:
        nonlocal calls, emitted_at
        calls += 1
        if time.monotonic() - emitted_at > 0.2:
            emitted_at = time.monotonic()
            emit(share=min(1.0, calls / (len(linears) * max(1, samples) * 2)))

    hooks = [module.register_forward_hook(count) for module in linears]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def main() -> None:
    gc.set_threshold(50_000)  # collections among the modules of llm-compressor take a fifth of its import
    # Once the parent has died, another process may make the same checkpoints: do not work beside it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # prints of the libraries go to the log
    register_environment()
    with redacted_streams():
        _make_all(json.load(sys.stdin), events)


def _make_all(jobs: list[dict[str, Any]], events: TextIO) -> None:
    for number, job in enumerate(jobs):

        def emit(*, number: int = number, **fields: object) -> None:
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps({"job": number, **fields}), file=events, flush=True)

        error = Path(job["folder"] + ".error")
        error.unlink(missing_ok=True)
        try:
            compress(job, emit)
        except Exception as reason:  # one recipe that cannot be made must not keep the others from being made
            error.write_text(redact(f"{type(reason).__name__}: {reason}"), encoding="utf-8")
            print(f"{job['recipe']['name']}: {reason!r}", file=sys.stderr)
        emit(step="done")


if __name__ == "__main__":
    main()
