"""Stands in for transformers in the process that makes checkpoints: a model is saved as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path


class AutoModelForCausalLM:
    def __init__(self, path: str) -> None:
        self._path = path

    @classmethod
    def from_pretrained(cls, path: str, dtype: str) -> AutoModelForCausalLM:
        return cls(path)

    def modules(self) -> Iterator[object]:
        return iter(())

    def save_pretrained(self, folder: Path, save_compressed: bool) -> None:
        shutil.copytree(self._path, folder, dirs_exist_ok=True)


class AutoTokenizer:
    @classmethod
    def from_pretrained(cls, path: str) -> AutoTokenizer:
        return cls()

    def save_pretrained(self, folder: Path) -> None: ...
