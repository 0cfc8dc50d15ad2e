"""Stands in for llm-compressor in the process that makes checkpoints: sends the driver a signal, then never ends."""

import os
import sys
import time
from typing import Any

_PHASE, _NUMBER = os.environ["FAULTS_PHASE"], int(os.environ["FAULTS_SIGNAL"])


def _strike() -> None:
    os.kill(os.getppid(), _NUMBER)
    time.sleep(600)


def _on_rename(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.rename" and "checkpoints" in os.fsdecode(arguments[1]):
        _strike()


def oneshot(**_: object) -> None:
    if _PHASE == "quantize":
        _strike()
    if _PHASE == "install":
        sys.addaudithook(_on_rename)
