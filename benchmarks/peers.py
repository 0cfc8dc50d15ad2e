"""Other load generators against the same server: `vllm bench serve`, and GuideLLM in an environment of its own.

GuideLLM: python -m venv FOLDER && FOLDER/bin/pip install guidellm; then --guidellm FOLDER/bin/guidellm.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.engine.base import Endpoint

_GUIDELLM = {
    "requests_per_second": ("qps", 1.0), "time_to_first_token_ms": ("ttft_s", 1e-3),
    "inter_token_latency_ms": ("tpot_s", 1e-3), "request_latency": ("latency_s", 1.0),
}  # fmt: skip
FIGURES = ("qps", "ttft_s", "tpot_s", "latency_s")


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The load that every generator is asked for.

    Attributes:
        endpoint: The server.
        model: Folder of its tokenizer.
        prompts: JSONL with a column "prompt", or a file in the form of `dataset`.
        requests: How many to send.
        max_tokens: Bound on every answer.
        users: Requests in flight at most; None where a rate is asked for.
        rate_per_s: Requests per second, with exponential gaps; None where users are.
        dataset: "custom", or "sharegpt", which bounds each answer by the recorded one.
    """

    endpoint: Endpoint
    model: str
    prompts: Path
    requests: int
    max_tokens: int
    users: int | None = None
    rate_per_s: float | None = None
    dataset: str = "custom"


def write_prompts(prompts: Sequence[Any], folder: Path, rows: int | None = None) -> Path:
    """The prompts as both peers read them, repeated up to the number of rows."""
    path = folder / "prompts.jsonl"
    texts = itertools.islice(itertools.cycle(prompts), rows or len(prompts))
    path.write_text("\n".join(json.dumps({"prompt": p}) for p in texts), encoding="utf-8")
    return path


def vllm_bench(job: LoadRequest, folder: Path) -> dict[str, Any]:
    """Run `vllm bench serve`; mean figures, "p90_latency_s" and "p99_latency_s".

    "start_times_s" is when it started the clock of each request, on the clock of `time.monotonic()`.
    """
    data = [f"--dataset-name={job.dataset}", f"--dataset-path={job.prompts}"]
    if job.dataset == "custom":
        data += ["--skip-chat-template", f"--custom-output-len={job.max_tokens}"]
    load = [f"--max-concurrency={job.users}"] if job.users else [f"--request-rate={job.rate_per_s}"]
    command = [
        sys.executable, "-m", "benchmarks.peer_sweep", "bench", "--backend=openai",
        f"--base-url={job.endpoint.base_url}", f"--served-model-name={job.endpoint.model}",
        f"--model={job.model}", *data, f"--num-prompts={job.requests}", "--temperature=0", "--seed=0",
        "--percentile-metrics=ttft,tpot,e2el", "--metric-percentiles=50,90,99", "--disable-tqdm",
        "--save-result", "--save-detailed", f"--result-dir={folder}", "--result-filename=bench.json", *load,
    ]  # fmt: skip
    _run(command, {"OPENAI_API_KEY": job.endpoint.api_key or "none", "VLLM_NO_USAGE_STATS": "1"})
    result = json.loads((folder / "bench.json").read_text())
    return {
        "qps": result["request_throughput"],
        "ttft_s": result["mean_ttft_ms"] / 1e3, "tpot_s": result["mean_tpot_ms"] / 1e3,
        "latency_s": result["mean_e2el_ms"] / 1e3, "p90_latency_s": result["p90_e2el_ms"] / 1e3,
        "p99_latency_s": result["p99_e2el_ms"] / 1e3,
        "tokens_sent": result["total_input_tokens"], "tokens_received": result["total_output_tokens"],
        "completed": result["completed"], "start_times_s": sorted(result["start_times"]),
    }  # fmt: skip


def guidellm(job: LoadRequest, folder: Path, program: str) -> dict[str, float]:
    """Run GuideLLM; mean figures. Its inter-token latency is the time per output token of the others."""
    out = folder / "guidellm.json"
    backend = {
        "kind": "openai_http", "target": job.endpoint.base_url, "model": job.endpoint.model,
        "request_format": "/v1/completions", "max_tokens": job.max_tokens, "validate_backend": False, "http2": False,
        "extras": {"body": {"temperature": 0}},
    }  # fmt: skip
    if job.endpoint.api_key is not None:
        backend["api_key"] = job.endpoint.api_key
    profile = f"kind=concurrent,streams={job.users}" if job.users else f"kind=poisson,rate={job.rate_per_s}"
    command = [
        program, "run", "--backend", json.dumps(backend), "--profile", profile,
        "--constraint", f"kind=max_requests,count={job.requests}",
        "--tokenizer", f"kind=huggingface_auto,model={Path(job.model).resolve()}",
        "--data", f"kind=json_file,path={job.prompts}", "--output", f"kind=json,path={out}", "--disable-console",
    ]  # fmt: skip
    _run(command, {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    metrics = json.loads(out.read_text())["benchmarks"][0]["metrics"]
    mean = {name: metrics[name]["successful"]["mean"] for name in _GUIDELLM}
    return {
        **{ours: mean[name] * scale for name, (ours, scale) in _GUIDELLM.items()},
        "completed": metrics["request_totals"]["successful"],
    }


def _run(command: Sequence[str], env: Mapping[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{command[0]} {command[1]}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
