"""How fast are the rows of a large file read, and in how much memory?

Usage: python -m benchmarks.reading [--gib 1] [--repeats 3]

Conversations of `demo/workloads/conversations.jsonl`, in ShareGPT's form with an id, a score and a day beside them
that nobody uses, are written over and over until a file has its size. Every reading is a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import itertools
import json
import math
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import RESULTS, provenance
from optimize.config.measuring import WorkloadSource
from optimize.files import write_atomically
from optimize.workload.paths import files_of
from optimize.workload.rows import rows_of
from optimize.workload.workload import load_workload

_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
_BLOCK_ROWS, _LIMIT = 4096, 1000
NAMES = ("rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.jsonl.gz")
READINGS = {
    "rows": "every row, none kept", "limit": f"a workload of the first {_LIMIT:,}", "all": "a workload of all rows"
}  # fmt: skip


def block() -> list[dict[str, Any]]:
    """The rows that are written over and over."""
    lines = Path("demo/workloads/conversations.jsonl").read_text(encoding="utf-8").splitlines()
    chats = [json.loads(line)["prompt"] for line in lines]
    return [_row(number, chats[number % len(chats)]) for number in range(_BLOCK_ROWS)]


def _row(number: int, chat: list[dict[str, str]]) -> dict[str, Any]:
    turns = [{"from": _SPEAKERS[turn["role"]], "value": f"{number}: {turn['content']}"} for turn in chat]
    answer = {"from": "gpt", "value": f"The answer to question {number}."}
    day = f"2026-11-{number % 30 + 1:02}"
    return {"id": number, "conversations": [*turns, answer], "score": number / 7, "day": day}


def write(folder: Path, gib: float) -> None:
    """The same rows in every kind of file; in CSV a conversation is JSON's text."""
    rows = block()
    texts = [json.dumps(row) for row in rows]
    lines = "".join(f"{text}\n" for text in texts).encode()
    times = math.ceil(gib * 2**30 / len(lines))
    table = io.StringIO()
    csv.writer(table).writerows([row["id"], json.dumps(row["conversations"])] for row in rows)
    contents = {
        "rows.jsonl": (b"", lines, b""),
        "rows.json": (b"[", ",\n".join(texts).encode() + b",\n", json.dumps(rows[0]).encode() + b"]"),
        "rows.csv": (b"id,conversations\r\n", table.getvalue().encode(), b""),
        "rows.jsonl.gz": (b"", gzip.compress(lines), b""),
    }
    for name, (head, body, tail) in contents.items():
        with (folder / name).open("wb") as file:
            file.write(head)
            for _ in range(times):
                file.write(body)
            file.write(tail)
    columns = pa.Table.from_pylist(rows)
    with pq.ParquetWriter(folder / "rows.parquet", columns.schema) as parquet:
        for _ in range(times):
            parquet.write_table(columns)


def reading(path: str, kind: str) -> None:
    """Read a file, and print what that took."""
    source = WorkloadSource("rows", path, max_tokens=64, limit=_LIMIT if kind == "limit" else None)
    before, began = _peak_mib(), time.process_time()
    if kind == "rows":
        rows = sum(1 for _ in rows_of(files_of(source.paths)))
    else:
        rows = len(load_workload(source, "no/model", Path(".")).prompts)
    print(json.dumps([rows, time.process_time() - began, max(_peak_mib() - before, 0.0)]))


def _peak_mib() -> float:
    """The most memory that this process has held so far."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(peak[1]) / 1024 if peak else float("nan")


def measured(path: Path, kind: str, repeats: int) -> tuple[int, float, float]:
    """(rows, CPU seconds, MiB beyond what the program itself takes), medians over processes."""
    command = [sys.executable, "-m", "benchmarks.reading", "--read", str(path), "--kind", kind]
    runs = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(repeats)
    ]
    return runs[0][0], statistics.median(run[1] for run in runs), statistics.median(run[2] for run in runs)


def table(folder: Path, repeats: int) -> list[str]:
    columns = ("file", "GiB", "reading", "rows", "CPU seconds", "rows/s", "MiB/s", "peak memory")
    lines = [f"| {' | '.join(columns)} |", "|---|---:|---|---:|---:|---:|---:|---:|"]
    for name, (kind, title) in itertools.product(NAMES, READINGS.items()):
        if kind == "all" and name != NAMES[0]:  # from here on, all files are alike
            continue
        size = (folder / name).stat().st_size / 2**20
        rows, seconds, mib = measured(folder / name, kind, repeats)
        speed = "" if kind == "limit" else f"{size / seconds:,.0f}"
        lines.append(
            f"| {name} | {size / 1024:.2f} | {title} | {rows:,} | {seconds:.2f} | {rows / seconds:,.0f} | {speed} | "
            f"{mib:,.0f} MiB |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=READINGS, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.read:
        reading(words.read, words.kind)
        return
    with TemporaryDirectory() as folder:
        write(Path(folder), words.gib)
        lines = table(Path(folder), words.repeats)
    command = f"python -m benchmarks.reading --gib {words.gib:g} --repeats {words.repeats}"
    write_atomically(RESULTS / "reading.md", "\n".join([_HEAD.format(provenance(command), words.repeats), *lines, ""]))


_HEAD = """# Reading a large file of prompts

{}

Conversations in ShareGPT's form, the same in each file, with columns beside them that nobody uses. Every reading is a
process of its own; medians of {} each. Seconds are those of the processor. Memory is the process's peak beyond what it
holds before it reads. A workload holds all of its prompts, so a file that is taken whole takes the memory of its texts;
with `workload.limit` it takes that of the rows it needs.
"""


if __name__ == "__main__":
    main()
