"""Every point of a grid of the demo's space, measured twice on live engines: something to argue about search on.

Usage: python -m benchmarks.tabular [--repeats 2] [--only-write]

5 quantizations x 5 batch sizes x 4 beams x 2 workers under the chat study's load, with shorter windows. Each repeat
goes over the engines in a random order of its own, and over the beams in a random order on each. Interrupt it at
will: it writes `benchmarks/data/table.parquet`, and the same command goes on from there.

The settings suit a processor without AVX-512: vLLM has no INT4 kernel for it, so those points are refused; 16-bit
floats are slow, so that one recipe computes in 32 bits, and so does what the INT8 ones leave unquantized; beams need
small cache blocks, or every step computes the prompt anew; and people wait twice as long as in the chat study.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import require_quiet
from objectives import Estimate, Measurement, RequestRecord
from objectives.segments import SegmentScore
from optimize.config.compose import configuration
from optimize.driver.checkpoints import checkpoints_of
from optimize.driver.progress import Progress
from optimize.driver.signals import terminable
from optimize.engine.pool import EnginePool
from optimize.evaluation.answers import Answers
from optimize.evaluation.estimates import estimate_all
from optimize.evaluation.evaluator import Evaluator
from optimize.formatting import figure
from optimize.ledger import Ledger, TrialRecord
from optimize.load.client_pool import ClientPool
from optimize.outcome import Evaluation, Infeasible, Role
from optimize.plan import Plan, make_plan

DATA = Path(__file__).resolve().parent / "data" / "table.parquet"
GRID: dict[str, list[Any]] = {
    "quantization": ["fp16", "fp32", "int8", "mixed8", "int4"],
    "batch_size": [1, 4, 16, 64, 256],
    "workers": [1, 2],
    "beam_size": [1, 2, 3, 4],
}
BASELINE = {"quantization": "fp16", "batch_size": 256, "workers": 1, "beam_size": 1}
"""The grid's point that is vLLM's defaults, but for the size of the cache's blocks."""
P99_MAX_S = 4.0
OVERRIDES = [
    "+study=chat", "study.name=table", f"constraints.p99_latency_s.max={P99_MAX_S}",
    "recipes.int8.dtype=float32", "recipes.mixed8.dtype=float32", "+engine.flags.block_size=32",
    *(f"~search_space.{knob}" for knob in GRID),
    *(f"+search_space.{knob}=[{','.join(map(str, values))}]" for knob, values in GRID.items()),
    "load.first_answer_max_s=60", "load.warmup_max_s=4", "load.window_min_s=4", "load.window_max_s=6",
    "load.drain_max_s=10",
]  # fmt: skip
LOOKED_AT, LOOKS_S = ("qps", "p99_latency_s", "error_rate"), (2.0, 3.0)
ENDED = ("completed", "infeasible")
"""States of a measurement with a result; points in other states are measured again."""
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
    """Measure the points that neither the table nor the ledger has yet."""
    ledger, grid = Ledger(plan.folder), points()
    done = {record.number for record in ledger.records() if record.state in ENDED}
    done |= {row["number"] for row in pq.read_table(DATA).to_pylist()} if DATA.is_file() else set()
    with ClientPool() as clients, EnginePool(plan.launcher, plan.folder / "engines") as pool:
        # As a study does: what vLLM says it cannot serve here is not tried.
        checkpoints, broken = checkpoints_of(plan, Progress(len(grid), []))
        evaluator = Evaluator(plan, pool, clients, ledger, lambda _: None)
        for repeat in range(repeats):
            for point in order(repeat):
                number = repeat * len(grid) + grid.index(point)
                if number in done:
                    continue
                record = TrialRecord(
                    "table", number, Role.SEARCH, point, {}, dict(plan.signature), started_at=time.time()
                )
                refusal = broken.get(point["quantization"])
                if refusal is not None:
                    record.conclude(Evaluation(Infeasible(refusal.kind, str(refusal), refusal.evidence)))
                else:
                    record.conclude(evaluator.evaluate(plan.space.resolve(point, checkpoints), record))
                ledger.write(record)
                print(f"{number}: {point} {_shown(record)}", flush=True)


def _shown(record: TrialRecord) -> str:
    names = ("qps", "p99_latency_s", "bleu")
    figures = "  ".join(figure(record.estimates[n]) for n in names if n in record.estimates)
    return f"{figures or record.reason[:120]} [{record.seconds.get('total', 0):.0f} s]"


def gains(plan: Plan, ledger: Ledger) -> dict[int, Estimate]:
    """Measurement -> its BLEU over that of the baseline's quantization and beam, on the prompts that both answered:
    slow ones answer few, always the same, and those are harder than all. Empty where none of that like was measured.
    """
    score, references = plan.metrics["bleu"], dict(enumerate(plan.workload.references))
    assert isinstance(score, SegmentScore)
    records = [r for r in ledger.records() if r.state == "completed"]
    keys = (r.answers_key for r in records if all(r.params[k] == BASELINE[k] for k in ("quantization", "beam_size")))
    alike = next(keys, None)
    if alike is None:
        return {}

    def answered(answers: Mapping[int, str]) -> Measurement:
        return Measurement([], 0.0, 0.0, references, answers=answers)

    theirs = answered(Answers(ledger).of(alike))
    pairs = {r.number: score.paired(answered(dict(ledger.read_answers(r.number))), theirs) for r in records}
    return {number: paired.difference for number, paired in pairs.items() if paired is not None}


def early(record: TrialRecord, ledger: Ledger, plan: Plan, look_s: float) -> dict[str, Estimate]:
    """Rate, latency and errors as of `look_s` seconds after the window opened."""
    path = ledger.trial_folder(record.number) / "requests.parquet"
    start_s = record.seconds["warmup"]
    requests = [
        r for r in (RequestRecord(**row) for row in pq.read_table(path).to_pylist()) if r.done_s <= start_s + look_s
    ]
    glimpse = Measurement(requests, start_s, start_s + look_s, {})
    return estimate_all(glimpse, {name: plan.metrics[name] for name in LOOKED_AT})


def rows(plan: Plan) -> list[dict[str, Any]]:
    """All measurements, those written before among them: knobs, repeat, state, each figure with its interval, what
    early looks would have shown of some, seconds per phase, signature.
    """
    by_number = {row["number"]: row for row in pq.read_table(DATA).to_pylist()} if DATA.is_file() else {}
    ledger = Ledger(plan.folder)
    gained = gains(plan, ledger)
    for record in ledger.records():
        if record.state not in ENDED:
            continue
        row: dict[str, Any] = {"number": record.number, **record.params, "repeat": record.number // len(points())}
        row |= {"state": record.state, "reason": record.reason, "new_engine": record.new_engine}
        row |= {"disturbed": "; ".join(record.disturbed), "started_at": record.started_at}
        for name, e in record.estimates.items():
            row |= {name: e.value, f"{name}.low": e.low, f"{name}.high": e.high, f"{name}.n": e.n}
        if (gain := gained.get(record.number)) is not None:
            row |= {
                "bleu.gain": gain.value,
                "bleu.gain.low": gain.low,
                "bleu.gain.high": gain.high,
                "bleu.gain.n": gain.n,
            }
        for look_s in LOOKS_S if record.state == "completed" else ():
            for name, e in early(record, ledger, plan, look_s).items():
                row |= {f"at {look_s:g} s.{name}.low": e.low, f"at {look_s:g} s.{name}.high": e.high}
        row |= {f"seconds.{name}": value for name, value in record.seconds.items()}
        by_number[record.number] = row | {"signature": json.dumps(record.signature)}
    return [by_number[number] for number in sorted(by_number)]


def write(plan: Plan) -> None:
    measurements = rows(plan)
    columns = dict.fromkeys(name for row in measurements for name in row)
    table = pa.table({name: [row.get(name) for row in measurements] for name in columns})
    DATA.parent.mkdir(exist_ok=True)
    pq.write_table(table, DATA, compression="zstd", compression_level=19)
    print(
        f"{len(measurements)} measurements of {2 * len(points())} in {DATA.name} ({DATA.stat().st_size / 1024:.0f} KiB)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only-write", action="store_true", help="write the results so far, measure nothing")
    args = parser.parse_args()
    plan = make_plan(configuration(OVERRIDES))
    if not args.only_write:
        require_quiet()
        try:
            with terminable():
                measure(args.repeats, plan)
        except KeyboardInterrupt:
            print("interrupted: the same command goes on from here")
    write(plan)


if __name__ == "__main__":
    main()
