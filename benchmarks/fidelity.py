"""Which loss of fidelity is told from noise? The unquantized model against itself, then quantized and broken ones.

Through live engines: the unquantized model answers prompts greedily, several times over; its first answers are the
reference, and how far the others differ from them is the noise floor. Quantized checkpoints answer the same prompts,
and so does an INT8 one that is broken on purpose, the scales of one layer doubled.

Usage: python -m benchmarks.fidelity [--prompts 100] [--repeats 5] [--layer NAME] [model=smollm2 ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, provenance, require_quiet
from objectives import Measurement, Objective
from objectives.quality import Bleu, ChrF, ExactMatch, FirstDifference, Perplexity
from objectives.segments import Paired, SegmentScore
from optimize.config.compose import configuration
from optimize.engine.base import EngineConfig
from optimize.engine.pool import EnginePool
from optimize.evaluation.perplexity import score_references
from optimize.evaluation.references import Interview, reference_config
from optimize.formatting import figure, span
from optimize.load.client_pool import ClientPool
from optimize.plan import Plan, make_plan
from optimize.quantize.calibration import calibration_of
from optimize.quantize.checkpoints import make_checkpoints

QUANTIZED, BROKEN = ("int8", "int4"), "int8, one layer's scales doubled"
SCORES: Mapping[str, SegmentScore] = {
    "identical answers": ExactMatch(), "first difference": FirstDifference(), "BLEU": Bleu(), "chrF": ChrF(),
    "perplexity": Perplexity(rows=10**9),
}  # fmt: skip
_SIZES = (5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160, 224)
_ORDERS = 9
"""Orders of the prompts over which the number that is needed is taken."""


@dataclass(frozen=True)
class Answers:
    """What one engine answered.

    Attributes:
        runs: Its answers, of each run; prompts that it did not answer are left out.
        logprobs: Of the reference, see `optimize.evaluation.perplexity`; empty for the engine that gave the reference.
        seconds: How long the first run took.
    """

    runs: Sequence[Mapping[int, str]]
    logprobs: Mapping[int, tuple[float, int]]
    seconds: float


def doubled(folder: Path, layer: str, target: Path) -> str:
    """Copy a quantized checkpoint, and double the scales of one of its layers.

    Args:
        folder: The checkpoint.
        layer: A part of the names of its tensors; empty for a linear layer in the middle.
        target: Folder to be made.

    Returns:
        Name of the layer.
    """
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target)
    scales = [
        (file, name) for file in sorted(target.glob("*.safetensors")) for name in load_file(file)
        if name.endswith("weight_scale") and (layer or "down_proj") in name
    ]  # fmt: skip
    if not scales:
        raise SystemExit(f"{folder} has no scales of a layer {layer or 'down_proj'!r}: choose another --layer")
    file, name = scales[len(scales) // 2]
    tensors = load_file(file)
    tensors[name] = tensors[name] * 2
    save_file(tensors, file, metadata={"format": "pt"})
    return name.removesuffix(".weight_scale")


def ask(
    plan: Plan, engine: EngineConfig, runs: int, pool: EnginePool, clients: ClientPool, reference: Mapping[int, str]
) -> Answers:
    """Have one engine answer; where there is a reference, it also says how likely it finds it."""
    with pool.lease(engine) as lease:
        interview, answers, seconds = Interview(plan, lease.engine, clients), [], 0.0
        for number in range(runs):
            answers.append(interview.run(number))
            seconds = seconds or interview.seconds
            print(f"  run {number + 1}: {len(answers[-1])} answers, {interview.seconds:.0f} s so far", flush=True)
        reference = reference or answers[0]
        rows = [row for row in interview.rows if row in reference]
        scored = score_references(
            lease.engine.endpoint, [plan.workload.prompts[row] for row in rows], [reference[row] for row in rows]
        )
    return Answers(answers, {rows[place]: logprob for place, logprob in scored.items()}, seconds)


def measured(answers: Answers, run: int, reference: Mapping[int, str]) -> Measurement:
    return Measurement([], 0, 0, reference, answers=answers.runs[run], reference_logprobs=answers.logprobs)


def compared(score: SegmentScore, ours: Measurement, theirs: Sequence[Measurement]) -> Paired | None:
    """The comparison, with the noise floor's own uncertainty as the tolerance; perplexity has no such floor."""
    paired, floor = score.paired(ours, *theirs), score.floor(theirs)
    if paired is None or floor is None or isinstance(score, Perplexity):
        return paired
    return dataclasses.replace(paired, tolerance=max(floor.value - floor.low, floor.high - floor.value))


def is_loss(score: Objective, paired: Paired | None) -> bool:
    """Whether the interval of the difference leaves the floor on the side of the worse."""
    if paired is None or paired.is_noise:
        return False
    return paired.difference.high < 0 if score.direction == "maximize" else paired.difference.low > 0


def prompts_needed(score: SegmentScore, ours: Measurement, theirs: Sequence[Measurement]) -> str:
    """How many prompts it takes until the loss is told from the floor and stays so: the median over random orders."""
    rows, counts = sorted(ours.references), list[float]()
    for seed in range(_ORDERS):
        order = random.Random(seed).sample(rows, k=len(rows))
        needed = float("inf")
        for size in sorted({*(n for n in _SIZES if n < len(rows)), len(rows)}, reverse=True):
            sample = frozenset(order[:size])
            if not is_loss(score, compared(score, _only(ours, sample), [_only(m, sample) for m in theirs])):
                break
            needed = size
        counts.append(needed)
    median = statistics.median(counts)
    return f"{median:.0f}" if median <= len(rows) else f"more than {len(rows)}"


def _only(measurement: Measurement, rows: frozenset[int]) -> Measurement:
    """The measurement on some of the rows."""
    return dataclasses.replace(
        measurement,
        references={row: text for row, text in measurement.references.items() if row in rows},
        reference_logprobs={row: value for row, value in measurement.reference_logprobs.items() if row in rows},
    )


def floor_table(answers: Answers, reference: Mapping[int, str]) -> list[str]:
    """The unquantized model against its own first answers, run by run and over all of them."""
    repeats = [measured(answers, run, reference) for run in range(1, len(answers.runs))]
    scores = {name: score for name, score in SCORES.items() if not isinstance(score, Perplexity)}
    lines = [_line(["run", *scores]), _line(["---"] * (1 + len(scores)))]
    for number, repeat in enumerate(repeats, 2):
        estimates = (score.estimate(repeat) for score in scores.values())
        lines.append(_line([str(number), *(figure(e) if e else "–" for e in estimates)]))
    floors = (score.floor(repeats) for score in scores.values())
    return [*lines, _line(["**all: the floor**", *(figure(e) if e else "–" for e in floors)])]


def loss_table(name: str, answers: Answers, baseline: Answers, reference: Mapping[int, str]) -> list[str]:
    """One checkpoint against the reference, metric by metric, beside the floor."""
    ours = measured(answers, 0, reference)
    repeats = [measured(baseline, run, reference) for run in range(1, len(baseline.runs))]
    lines = []
    for metric, score in SCORES.items():
        paired, estimate = compared(score, ours, repeats), score.estimate(ours)
        if paired is None or estimate is None:
            continue
        gap = paired.difference
        interval = span(f"{gap.low:+.3g}", f"{gap.high:+.3g}")
        verdict = "a loss" if is_loss(score, paired) else "within noise"
        needed = prompts_needed(score, ours, repeats) if verdict == "a loss" else "–"
        cells = [name, metric, figure(estimate), f"{gap.value:+.3g} ({interval})", f"{paired.p:.2g}", verdict, needed]
        lines.append(_line(cells))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def report(plan: Plan, answers: Mapping[str, Answers], layer: str, command: str) -> str:
    """The whole page in Markdown; the first of `answers` is the unquantized model."""
    (first, baseline), *others = answers.items()
    reference = baseline.runs[0]
    answered = f"{len(reference)} prompts of {plan.workload.name}, at most {plan.workload.max_tokens} tokens each"
    seconds = ", ".join(f"{name} {each.seconds:.0f} s" for name, each in answers.items())
    about = (
        f"Model {plan.config.model.name}; {answered}; {plan.arrivals.describe()}; greedy. The reference is the first "
        f"run of the unquantized model ({first}). Time of one run: {seconds}. Broken on purpose: the scales of {layer}."
    )
    head = ["checkpoint", "metric", "figure", "beyond the floor", "p", "verdict", "prompts needed"]
    rows = [line for name, each in others for line in loss_table(name, each, baseline, reference)]
    explanation = (
        "“Beyond the floor” is the figure less that of the unquantized model's own repeats, in pairs over prompts, "
        "with a 95 % interval by paired bootstrap; p is by approximate randomization, which takes all repeats for one "
        "run and is the stricter for it. A difference counts as a loss if "
        "its interval excludes zero and it is larger than what the floor itself is uncertain by. “Prompts needed” is "
        f"how many it takes until that holds and goes on to hold, the median over {_ORDERS} random orders. "
        "Perplexity is that of the reference answers; it is compared with the unquantized model's own and has no "
        "floor, for the reference is what that model finds likeliest."
    )
    return "\n".join([
        "# Fidelity: the unquantized model's own answers as the reference", "", provenance(command), "", about, "",
        "## The model against itself", "", *floor_table(baseline, reference), "", "## Other checkpoints against it", "",
        _line(head), _line(["---"] * len(head)), *rows, "", explanation, "",
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5, help="runs of the unquantized model after the first")
    parser.add_argument("--layer", default="", help="part of the name of the layer to break")
    parser.add_argument("--into", type=Path, default=RESULTS / "fidelity.md")
    parser.add_argument("overrides", nargs="*", help="model=smollm2, workload=..., load.arrivals.users=...")
    words = parser.parse_args(arguments)
    require_quiet()
    overrides = ["study.name=fidelity", "quality.reference=baseline", f"quality.prompts={words.prompts}"]
    plan = make_plan(configuration(["+study=chat", *overrides, *words.overrides]))
    began = time.monotonic()
    answers, layer = measure(plan, words.repeats, words.layer)
    shown = [word for word in words.overrides if not word.startswith(("cache_dir=", "output_dir="))]
    command = " ".join(["python -m benchmarks.fidelity", *shown])
    text = report(plan, answers, layer, command)
    words.into.write_text(text, encoding="utf-8")
    print(f"{text}\n{time.monotonic() - began:.0f} s")


def measure(plan: Plan, repeats: int, layer: str) -> tuple[dict[str, Answers], str]:
    """Ask every checkpoint; returns name -> its answers, the unquantized model first, and the layer that was broken."""
    recipes = [plan.config.recipes[name] for name in QUANTIZED]
    checkpoints, failed = make_checkpoints(
        plan.config.model, recipes, Path(plan.config.cache_dir), print, calibration_of(plan.workload)
    )
    assert not failed, failed
    unquantized = reference_config(plan).engine
    with (
        TemporaryDirectory() as scratch,
        ClientPool() as clients,
        EnginePool(plan.launcher, Path(scratch) / "engines") as pool,
    ):
        broken = Path(scratch) / "broken"
        layer = doubled(Path(checkpoints["int8"]), layer, broken)
        engines = {name: plan.space.resolve({"quantization": name}, checkpoints).engine for name in QUANTIZED}
        engines[BROKEN] = dataclasses.replace(engines["int8"], checkpoint=str(broken), quantization="broken")
        print(unquantized.quantization, flush=True)
        answers = {unquantized.quantization: ask(plan, unquantized, 1 + repeats, pool, clients, {})}
        reference = answers[unquantized.quantization].runs[0]
        for name, engine in engines.items():
            print(name, flush=True)
            answers[name] = ask(plan, engine, 1, pool, clients, reference)
    return answers, layer


if __name__ == "__main__":
    main()
