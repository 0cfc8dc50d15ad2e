"""Every point of a grid of the demo's space, measured twice on live engines: something to argue about search on.

Usage: python -m benchmarks.table [--repeats 2] [--only-write]

4 quantizations x 5 batch sizes x 4 beams x 2 workers under the chat study's load, with shorter windows. Each repeat
goes over the engines in a random order of its own, and over the beams in a random order on each. Interrupt it at
will: it writes `benchmarks/data/table.parquet`, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import configuration, require_quiet
from objectives import Estimate, Measurement, RequestRecord
from optimize.engine.pool import EnginePool
from optimize.evaluate import Evaluator, estimate_all
from optimize.ledger import Ledger, TrialRecord
from optimize.load.crew import Crew
from optimize.measure.session import settle
from optimize.plan import Plan, make_plan
from optimize.quantize import make_checkpoints
from optimize.report.format import figure
from optimize.run import terminable

DATA = Path(__file__).resolve().parent / "data" / "table.parquet"
GRID: dict[str, list[Any]] = {
    "quantization": ["fp16", "int8", "int4", "dynamic4"],
    "batch_size": [1, 4, 16, 64, 256],
    "workers": [1, 2],
    "beam_size": [1, 2, 4, 8],
}
BASELINE = {"quantization": "fp16", "batch_size": 256, "workers": 1, "beam_size": 1}
"""The grid's point that is vLLM's defaults."""
OVERRIDES = [
    "+study=chat", "study.name=table",
    *(f"~search_space.{knob}" for knob in GRID),
    *(f"+search_space.{knob}=[{','.join(map(str, values))}]" for knob, values in GRID.items()),
    "load.first_answer_max_s=60", "load.warmup_max_s=4", "load.window_min_s=4", "load.window_max_s=6",
    "load.drain_max_s=10",
]  # fmt: skip
LOOKED_AT, LOOKS_S = ("qps", "p99_latency_s", "error_rate"), (2.0, 3.0)
Point = dict[str, Any]


def points() -> list[Point]:
    """The whole grid; a point's place in it is its number."""
    return [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]


def order(repeat: int) -> Iterator[Point]:
    """The grid in a random order of this repeat's, the beams of one engine together."""
    rng = random.Random(repeat)
    beams = GRID["beam_size"]
    engines = [p for p in points() if p["beam_size"] == beams[0]]
    for engine in rng.sample(engines, k=len(engines)):
        for beam in rng.sample(beams, k=len(beams)):
            yield {**engine, "beam_size": beam}


def measure(repeats: int, plan: Plan) -> None:
    """Measure what neither the table nor the ledger has yet."""
    ledger, grid = Ledger(plan.folder), points()
    done = {row["number"] for row in rows(plan)}
    checkpoints, broken = make_checkpoints(
        plan.config.model, plan.space.recipes_needed(), Path(plan.config.cache_dir), print
    )
    if broken:
        raise SystemExit(f"no checkpoint: {broken}")
    with Crew() as crew, EnginePool(plan.launcher, plan.folder / "engines") as pool:
        evaluator = Evaluator(plan, pool, crew, ledger, lambda _: None)
        for repeat in range(repeats):
            for point in order(repeat):
                number = repeat * len(grid) + grid.index(point)
                if number in done:
                    continue
                record = TrialRecord("table", number, "search", point, {}, dict(plan.signature), started_at=time.time())
                settle(record, evaluator.evaluate(plan.space.resolve(point, checkpoints), record))
                ledger.write(record)
                print(f"{number}: {point} {_shown(record)}", flush=True)


def _shown(record: TrialRecord) -> str:
    names = ("qps", "p99_latency_s", "bleu")
    figures = "  ".join(figure(record.estimates[n]) for n in names if n in record.estimates)
    return f"{figures or record.reason[:120]} [{record.seconds['total']:.0f} s]"


def early(record: TrialRecord, ledger: Ledger, plan: Plan, look_s: float) -> dict[str, Estimate]:
    """What a look at the window so many seconds after it had opened would have shown of rate, latency and errors."""
    path = ledger.trial_folder(record.number) / "requests.parquet"
    start_s = record.seconds["warmup"]
    seen = [
        r for r in (RequestRecord(**row) for row in pq.read_table(path).to_pylist()) if r.done_s <= start_s + look_s
    ]
    glimpse = Measurement(seen, start_s, start_s + look_s, {})
    return estimate_all(glimpse, {name: plan.metrics[name] for name in LOOKED_AT})


def rows(plan: Plan) -> list[dict[str, Any]]:
    """All measurements, those written before among them: knobs, repeat, state, each figure with its interval, what
    early looks would have shown of some, seconds per phase, signature.
    """
    known = {row["number"]: row for row in pq.read_table(DATA).to_pylist()} if DATA.is_file() else {}
    ledger = Ledger(plan.folder)
    for record in ledger.records():
        if record.state not in ("completed", "infeasible"):
            continue
        row: dict[str, Any] = {"number": record.number, **record.params, "repeat": record.number // len(points())}
        row |= {"state": record.state, "reason": record.reason, "new_engine": record.new_engine}
        row |= {"disturbed": "; ".join(record.disturbed), "started_at": record.started_at}
        for name, e in record.estimates.items():
            row |= {name: e.value, f"{name}.low": e.low, f"{name}.high": e.high, f"{name}.n": e.n}
        for look_s in LOOKS_S if record.state == "completed" else ():
            for name, e in early(record, ledger, plan, look_s).items():
                row |= {f"at {look_s:g} s.{name}.low": e.low, f"at {look_s:g} s.{name}.high": e.high}
        row |= {f"seconds.{name}": value for name, value in record.seconds.items()}
        known[record.number] = row | {"signature": json.dumps(record.signature)}
    return [known[number] for number in sorted(known)]


def write(plan: Plan) -> None:
    found = rows(plan)
    columns = dict.fromkeys(name for row in found for name in row)
    table = pa.table({name: [row.get(name) for row in found] for name in columns})
    DATA.parent.mkdir(exist_ok=True)
    pq.write_table(table, DATA, compression="zstd", compression_level=19)
    print(f"{len(found)} measurements of {2 * len(points())} in {DATA.name} ({DATA.stat().st_size / 1024:.0f} KiB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only-write", action="store_true", help="write what there is, measure nothing")
    asked = parser.parse_args()
    plan = make_plan(configuration(OVERRIDES))
    if not asked.only_write:
        require_quiet()
        try:
            with terminable():
                measure(asked.repeats, plan)
        except KeyboardInterrupt:
            print("interrupted: the same command goes on from here")
    write(plan)


if __name__ == "__main__":
    main()
