"""Write the shipped workloads: `python -m demo.workloads [--out FOLDER]`.

One JSON object a line with the columns `prompt` and `reference`. Every source sentence is reserved by
`demo.grammar.is_held_out`, which training drops.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from demo.grammar import Pair, is_held_out, sample_shape
from demo.pairs import MAX_POSITIONS, MODEL_FOLDER, prompt_of

WORKLOAD_FOLDER = Path(__file__).parent / "workloads"
LINES = {"chat": 300, "bulk": 200, "abtest": 300}
_SEED = 7


def held_out_pairs(shape: str, seed: int) -> Iterator[Pair]:
    """Yield pairs of a shape without end, reserved sentences only and each source once."""
    rng = random.Random(f"{shape}-{seed}")
    earlier: set[str] = set()
    while True:
        pair = sample_shape(rng, shape)
        if is_held_out(pair.source) and pair.source not in earlier:
            earlier.add(pair.source)
            yield pair


def rows(shape: str, lines: int, tokenizer: object) -> list[dict[str, str]]:
    """Return `lines` rows whose prompt and reference with EOS fit into the model's positions."""
    chosen: list[dict[str, str]] = []
    pairs = held_out_pairs(shape, _SEED)
    while len(chosen) < lines:
        pair = next(pairs)
        row = {"prompt": prompt_of(pair.source), "reference": pair.reference}
        if tokens(tokenizer, row) <= MAX_POSITIONS:
            chosen.append(row)
    return chosen


def tokens(tokenizer: object, row: dict[str, str]) -> int:
    """Count the tokens of a row's prompt (with BOS) and reference (with EOS)."""
    encode = tokenizer.encode  # type: ignore[attr-defined]
    return len(encode(row["prompt"])) + len(encode(row["reference"], add_special_tokens=False)) + 1


def write(folder: Path, shape: str, tokenizer: object) -> Path:
    """Write one workload and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{shape}.jsonl"
    lines = (json.dumps(row, ensure_ascii=False) for row in rows(shape, LINES[shape], tokenizer))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def main() -> None:
    """Write all workloads."""
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description="Write the demo workloads.")
    parser.add_argument("--out", type=Path, default=WORKLOAD_FOLDER)
    folder = parser.parse_args().out
    tokenizer = AutoTokenizer.from_pretrained(MODEL_FOLDER)
    for shape in LINES:
        print(write(folder, shape, tokenizer))


if __name__ == "__main__":
    main()
