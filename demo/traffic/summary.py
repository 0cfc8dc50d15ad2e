"""What is in a workload's file: sizes, lengths, shared prefixes, and how much its texts repeat each other."""

import gzip
import json
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from demo.traffic import published

_GRAM = 8
Count = Callable[[str], int]


def table(files: Sequence[Path], tokenizer: Path | None = None) -> str:
    """A Markdown table with a column per file.

    Args:
        files: Workloads as JSONL.
        tokenizer: A `tokenizer.json`; None counts words and marks.
    """
    count = _counter(tokenizer)
    columns = [summary(file, count) for file in files]
    head = ["", *(file.stem for file in files)]
    lines = [head, ["---", *("---:" for _ in files)]]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counter(tokenizer: Path | None) -> Count:
    if tokenizer is None:
        return published.tokens
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer))
    return lambda text: len(encoder.encode(text, add_special_tokens=False).ids)


def summary(file: Path, count: Count = published.tokens) -> dict[str, str]:
    """Figure -> value in words, the same figures for every file."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    prompts = [_messages(row["prompt"]) for row in rows]
    lengths = [sum(map(count, prompt)) for prompt in prompts]
    limits = [row["max_tokens"] for row in rows if "max_tokens" in row]
    texts = unique_texts(prompts)
    return {
        "requests": f"{len(rows)}",
        "conversations, turns of each (mean, most)": _turns(rows),
        "prompt tokens (mean, p50, p90, most)": _spread(lengths),
        "tokens of the last message (mean, p50, p90, most)": _spread([count(prompt[-1]) for prompt in prompts]),
        "drawn limit of the answer (mean, p50, p90, most)": _spread(limits) if limits else "",
        "tokens shared with an earlier request": f"{shared_prefix(prompts, count):.0%}",
        "distinct 8-grams": f"{distinct_grams(texts):.1%}",
        "distinct words in 1,000": f"{type_token_ratio(texts):.0%}",
        "size after gzip": f"{gzip_ratio(texts):.0%}",
    }


def _messages(prompt: str | list[dict[str, str]]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else [message["content"] for message in prompt]


def _turns(rows: Sequence[dict[str, Any]]) -> str:
    numbers = [row.get("conversation", number) for number, row in enumerate(rows)]
    turns = [numbers.count(number) for number in dict.fromkeys(numbers)]
    return f"{len(turns)}, {statistics.mean(turns):.2f}, {max(turns)}"


def _spread(values: Sequence[int]) -> str:
    ordered = sorted(values)
    p50, p90 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.9))
    return f"{statistics.mean(values):.0f}, {p50}, {p90}, {ordered[-1]}"


def shared_prefix(prompts: Sequence[Sequence[str]], count: Count) -> float:
    """Share of all prompt tokens that stand at the same place in an earlier request: what a prefix cache could save."""
    earlier: set[tuple[str, ...]] = set()
    shared = total = 0
    for prompt in prompts:
        heads = [tuple(prompt[:size]) for size in range(1, len(prompt) + 1)]
        shared += sum(count(head[-1]) for head in heads if head in earlier)
        total += sum(map(count, prompt))
        earlier.update(heads)
    return shared / total


def unique_texts(prompts: Sequence[Sequence[str]]) -> list[str]:
    """All messages, each once however many requests hold it."""
    return list(dict.fromkeys(message for prompt in prompts for message in prompt))


def distinct_grams(texts: Sequence[str]) -> float:
    """Share of the sequences of eight words that occur once, among all of them; 1 where nothing is ever repeated."""
    grams = [tuple(words[i : i + _GRAM]) for words in map(str.split, texts) for i in range(len(words) - _GRAM + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def type_token_ratio(texts: Sequence[str], size: int = 1000) -> float:
    """Mean share of different words in successive runs of `size` words: independent of the length of the whole."""
    words = [word.strip(".,:;!?\"'()").lower() for text in texts for word in text.split()]
    runs = [words[a:b] for a, b in pairwise(range(0, len(words) + 1, size))] or [words]
    return statistics.mean(len(set(run)) / len(run) for run in runs)


def gzip_ratio(texts: Sequence[str]) -> float:
    """Bytes of all texts after gzip, as a share of those before: lower where they repeat each other."""
    raw = "\n".join(texts).encode()
    return len(gzip.compress(raw, 9, mtime=0)) / len(raw)
