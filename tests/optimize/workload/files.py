"""Files of prompts as people have them, written for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimize.config.measuring import WorkloadSource
from optimize.workload.workload import Workload, load_workload


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(folder: Path, rows: Sequence[Any], name: str = "mine.jsonl") -> Path:
    return written(folder, name, "".join(f"{json.dumps(row)}\n" for row in rows))


def load(path: object, max_tokens: int | None = 40, **settings: Any) -> Workload:
    """What `workload=file workload.path=...` reads, with a bound so that no tokenizer is needed."""
    source = WorkloadSource("file", path if isinstance(path, list) else str(path), max_tokens=max_tokens, **settings)
    return load_workload(source, "no/model", Path("no-cache"))


def pairs(workload: Workload) -> list[tuple[Any, str]]:
    return list(zip(workload.prompts, workload.references, strict=True))
