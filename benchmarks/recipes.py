"""Every recipe on the demo model: made, asked of vLLM, served live, scored on all prompts, its weights beside FP16's.

Usage: python -m benchmarks.recipes [--only int8,mixed8]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, provenance, require_quiet
from benchmarks.weight_deviation import deviations
from objectives import Estimate, Measurement, MemoryParts
from objectives.quality import Bleu, ChrF
from optimize.config.compose import configuration
from optimize.engine.base import EngineConfig, RequestConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import EngineFailure
from optimize.formatting import figure
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.model.manifest import MANIFEST, read_manifest
from optimize.plan import Plan, make_plan
from optimize.quantize.calibration import calibration_of
from optimize.quantize.checkpoints import make_checkpoints
from optimize.quantize.layers import Precision, layer_precisions, summary

USERS = 16
_SLOW_S = 40.0


@dataclasses.dataclass(frozen=True)
class Served:
    """One recipe, served.

    Attributes:
        answers: How many prompts were answered.
        seconds: How long that took.
        bleu: Over these answers.
        chrf: Over these answers.
        memory: What the engine held at the end.
    """

    answers: int
    seconds: float
    bleu: Estimate | None
    chrf: Estimate | None
    memory: MemoryParts


def serve(plan: Plan, launcher: VllmLauncher, engine_config: EngineConfig, clients: ClientPool) -> Served:
    """Start the engine and ask every prompt once; a recipe that is emulated is stopped after a while."""
    load = dataclasses.replace(
        plan.config.load, warmup_s=0, warmup_requests=0, window_requests=len(plan.workload.prompts),
        window_min_s=0, window_max_s=_SLOW_S, precision={}, drain_max_s=60, request_timeout_s=300,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        engine = launcher.launch(engine_config, Path(folder) / "log")
        try:
            engine.reset()
            began = time.monotonic()
            loaded = run_load(clients, engine, Traffic(plan.workload, RequestConfig(), ClosedLoop(users=USERS), load))
            took = time.monotonic() - began
            memory = engine.memory()
        finally:
            engine.stop()
    references = dict(enumerate(plan.workload.references))
    measured = Measurement(loaded.records, loaded.window_start_s, loaded.window_end_s, references)
    answers = len({r.prompt_id for r in loaded.records if r.error is None})
    return Served(answers, took, Bleu().estimate(measured), ChrF().estimate(measured), memory)


def report(plan: Plan, checkpoints: Mapping[str, str], served: Mapping[str, Served], refused: Mapping[str, str]) -> str:
    """The tables in Markdown."""
    lines = [
        "| recipe | BLEU | chrF | answers scored | checkpoint | weights held | weights' deviation from FP16 | "
        "its bits predict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, got in served.items():
        rms, predicted = _deviation(Path(checkpoints[name]), Path(plan.config.model.path))
        sizes = [figure(Estimate(v, v, v, 1, "bytes")) for v in (got.memory.checkpoint_bytes, got.memory.weights_bytes)]
        scores = [figure(e) if e else "none" for e in (got.bleu, got.chrf)]
        lines.append(
            f"| {name} | {scores[0]} | {scores[1].replace(' chrF', '')} | {got.answers} | {sizes[0]} | {sizes[1]} | "
            f"{rms} | {predicted} |"
        )
    lines += ["", "Refused here, known before an engine was started:", ""]
    lines += [f"- {name}: {why}" for name, why in refused.items()] or ["- none"]
    lines += ["", "## What each layer got", ""]
    for name in served:
        folder = Path(checkpoints[name])
        if (folder / MANIFEST).is_file():
            lines += [f"**{name}** ({_calibrated(folder)})", ""]
            layers = {n: Precision(**p) for n, p in read_manifest(folder)["layers"].items()}
            assert layers == layer_precisions(folder)
            lines += [*(f"- {line}" for line in summary(layers)), ""]
    return "\n".join(lines)


def _calibrated(folder: Path) -> str:
    manifest = read_manifest(folder)
    data = f"{manifest['calibration_samples']} prompts, hash {manifest['calibration_hash']}"
    return f"made in {manifest['seconds']:.1f} s; {data if manifest['calibration_samples'] else 'no calibration'}"


def _deviation(folder: Path, original: Path) -> tuple[str, str]:
    """Median over the layers, in percent of the weights' root mean square."""
    layers = deviations(folder, original) if (folder / MANIFEST).is_file() else {}
    if not layers:
        return "0", "0"
    return (
        f"{statistics.median(d.rms for d in layers.values()):.2%}",
        f"{statistics.median(d.predicted for d in layers.values()):.2%}",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="recipes, separated by commas; all without")
    args = parser.parse_args(arguments)
    require_quiet()
    plan = make_plan(configuration(["+study=chat", "study.name=recipes"]))
    recipes = {n: r for n, r in plan.config.recipes.items() if not args.only or n in args.only.split(",")}
    cache = Path(plan.config.cache_dir)
    checkpoints, broken = make_checkpoints(
        plan.config.model, list(recipes.values()), cache, print, calibration_of(plan.workload)
    )
    assert not broken, broken
    engines = {
        name: EngineConfig(
            checkpoints[name], name, tuple(sorted({"dtype": r.dtype, **plan.config.model.flags, **r.flags}.items()))
        )
        for name, r in recipes.items()
    }
    launcher = VllmLauncher(env=plan.config.hardware.env, start="warm", compile_cache=str(cache / "compiled"))
    launcher.prepare()
    served: dict[str, Served] = {}
    try:
        refused = {name: str(why) for name, why in launcher.refusals(engines).items()}
        with ClientPool() as clients:
            for name, engine in engines.items():
                if name in refused:
                    continue
                try:
                    served[name] = serve(plan, launcher, engine, clients)
                except EngineFailure as failure:
                    refused[name] = f"only known once it was started: {failure}"
                print(name, served.get(name) or refused[name], flush=True)
    finally:
        launcher.close()
    head = "# Every recipe, served and scored\n\n" + provenance("python -m benchmarks.recipes")
    what = (
        f"The demo model, its {len(plan.workload.prompts)} chat prompts, {USERS} users, greedy. BLEU's and chrF's "
        "intervals are by bootstrap over the answers; recipes that the processor has to emulate are stopped after "
        f"{_SLOW_S:.0f} s and scored on what they had answered. Deviation: root mean square of the difference to "
        "FP16, in percent of the weights' own, median over the quantized layers; beside it what the bits predict "
        "(`benchmarks/weight_deviation.py`). GPTQ trades weight errors for smaller errors of the output, so its "
        "deviation is larger."
    )
    text = "\n\n".join([head, what, report(plan, checkpoints, served, refused)])
    print(text)
    if not args.only:
        (RESULTS / "recipes.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
