"""Does the live engine find the references as likely as transformers does? The demo model in FP16, every workload.

Usage: python -m benchmarks.perplexity
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, engine_of, provenance, require_quiet
from demo.evaluate import reference_logprobs
from optimize.config.compose import configuration
from optimize.config.instantiate import build
from optimize.engine.base import Launcher
from optimize.evaluation.perplexity import score_references
from optimize.workload.workload import load_workload

STUDIES = ("chat", "bulk", "abtest")


def perplexity(logprobs: Mapping[int, tuple[float, int]]) -> float:
    return math.exp(-sum(total for total, _ in logprobs.values()) / sum(tokens for _, tokens in logprobs.values()))


def row_of(study: str, launcher: Launcher) -> str:
    """One line of the table."""
    config = configuration([f"+study={study}"])
    workload = load_workload(config.workload, config.model.path, Path(config.cache_dir))
    prompts, references = [str(prompt) for prompt in workload.prompts], workload.references
    with TemporaryDirectory() as folder:
        engine = launcher.launch(engine_of(config, {"quantization": "fp16"}), Path(folder) / "log")
        try:
            ours = score_references(engine.endpoint, prompts, references)
        finally:
            engine.stop()
    theirs = reference_logprobs(Path(config.model.path), prompts, references)
    assert ours.keys() == theirs.keys() and all(ours[row][1] == theirs[row][1] for row in ours)
    one, other = perplexity(ours), perplexity(theirs)
    furthest = max(abs(ours[row][0] - theirs[row][0]) / ours[row][1] for row in ours)
    tokens, apart = sum(n for _, n in ours.values()), one / other - 1
    return f"| {workload.name} | {len(ours)} | {tokens} | {one:.5f} | {other:.5f} | {apart:+.4%} | {furthest:.4f} |"


def main() -> None:
    require_quiet()
    launcher: Launcher = build(configuration(["+study=chat"]).engine, "engine")
    launcher.prepare()
    try:
        lines = [row_of(study, launcher) for study in STUDIES]
    finally:
        launcher.close()
    head = (
        "| workload | references | tokens | engine | transformers | difference | furthest row, nats per token |\n"
        "|---|---|---|---|---|---|---|"
    )
    about = (
        "Perplexity of the references given their prompts: what the live engine says (`prompt_logprobs`) beside what "
        "transformers computes from the same checkpoint in float16, one row at a time. Both are sums over the same "
        "tokens, so no interval stands between them: they differ by rounding."
    )
    text = f"# Perplexity through the engine\n\n{provenance('python -m benchmarks.perplexity')}\n\n{about}\n\n"
    (RESULTS / "perplexity.md").write_text(text + "\n".join([head, *lines]) + "\n", encoding="utf-8")
    print("\n".join([head, *lines]))


if __name__ == "__main__":
    main()
