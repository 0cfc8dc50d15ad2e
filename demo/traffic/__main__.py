"""Write the workloads that look like traffic and say what is in them: `python -m demo.traffic [--out FOLDER]`.

`--format sharegpt` writes the conversations alone, as one JSON list in the form of ShareGPT.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.traffic.conversations import rows as conversation_rows
from demo.traffic.conversations import sharegpt
from demo.traffic.single import completion_rows, document_rows
from demo.traffic.summary import table

FOLDER = Path(__file__).parents[1] / "workloads"
SEED = 7
WORKLOADS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "conversations": conversation_rows,
    "documents": document_rows,
    "completions": completion_rows,
}


def lines(name: str) -> str:
    """The whole file of a workload."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in WORKLOADS[name](SEED))


def main() -> None:
    """Write all workloads and print their summary."""
    parser = argparse.ArgumentParser(description="Write the workloads that look like traffic.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json; words and marks are counted without one")
    parser.add_argument("--format", choices=("requests", "sharegpt"), default="requests")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.format == "sharegpt":
        path = options.out / "sharegpt.json"
        path.write_text(json.dumps(sharegpt(SEED), ensure_ascii=False, indent=1), encoding="utf-8")
        print(path)
        return
    for name in WORKLOADS:
        (options.out / f"{name}.jsonl").write_text(lines(name), encoding="utf-8")
    files = [options.out / f"{name}.jsonl" for name in WORKLOADS]
    print(table(files, options.tokenizer))


if __name__ == "__main__":
    main()
