"""Files of prompts as people have them, written for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from optimize.config.measuring import WorkloadSource
from optimize.workload.workload import Workload, load_workload

ROWS: list[dict[str, Any]] = [
    {"prompt": "the old man", "reference": "der alte Mann"},
    {"prompt": "the dog", "reference": "der Hund"},
    {"prompt": "the old red house sleeps", "reference": "das alte rote Haus schläft"},
]
CHAT = [{"role": "system", "content": "Translate."}, {"role": "user", "content": "the dog"}]


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


def word_model(folder: Path) -> str:
    """A model whose tokens are the words of ROWS, ids in alphabetic order."""
    words = {word for row in ROWS for key in ("prompt", "reference") for word in row[key].split()}
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(sorted(words))}, unk_token="der"))
    tokenizer.pre_tokenizer = Whitespace()
    (folder / "model").mkdir()
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    return str(folder / "model")
