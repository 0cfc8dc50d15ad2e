"""Other load tools' own search for the load that a live engine carries within an SLO.

Both look for the largest number of concurrent requests: GuideLLM doubles it, then bisects (its profile "goodput");
AIPerf fits a smooth isotonic regression (its recipe "max-concurrency-under-sla"). Each in an environment of its own:
`python -m venv FOLDER && FOLDER/bin/pip install guidellm` (or `aiperf`).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.config.capacity import ServiceLevel
from optimize.engine.base import Endpoint

PROBE_S = 15.0
"""Seconds of a probe, and of a window; both tools leave it to their user."""
WARM_UP_S = 5
"""Seconds before each of AIPerf's probes; its own 60 are for an engine that still compiles, as this one does not."""
_LINES = 20
_GUIDELLM_LIMITS = {"ttft_s": "ttft_ms", "tpot_s": "tpot_ms", "latency_s": "e2el_ms"}
_AIPERF_METRICS = {"ttft_s": "time_to_first_token", "tpot_s": "inter_token_latency", "latency_s": "request_latency"}


@dataclass(frozen=True, slots=True)
class PeerSearch:
    """What every tool is asked for.

    Attributes:
        endpoint: The server.
        model: Folder of its tokenizer.
        prompts: JSONL with a column "prompt".
        max_tokens: Bound on every answer.
        slo: What must hold.
        reach: Highest rate per second, or number of users.
        folder: For what the tool writes.
    """

    endpoint: Endpoint
    model: Path
    prompts: Path
    max_tokens: int
    slo: ServiceLevel
    reach: float
    folder: Path

    @property
    def share(self) -> float:
        """Least share of requests within the limits."""
        return self.slo.share or self.slo.quantile


def guidellm_search(search: PeerSearch, program: str) -> str:
    """Run GuideLLM's search; its answer in words."""
    out, endpoint = search.folder / "guidellm.json", search.endpoint
    backend: dict[str, Any] = {
        "kind": "openai_http", "target": endpoint.base_url, "model": endpoint.model,
        "request_format": "/v1/completions", "max_tokens": search.max_tokens, "validate_backend": False, "http2": False,
        "extras": {"body": {"temperature": 0}}, "api_key": endpoint.api_key or "none",
    }  # fmt: skip
    limits = {_GUIDELLM_LIMITS[name]: 1e3 * limit for name, limit in search.slo.limits.items()}
    profile = f"kind=goodput,target_attainment={search.share},max_streams={search.reach:.0f}"
    failure = _run({"HF_HUB_OFFLINE": "1"}, [
        program, "run", "--backend", json.dumps(backend), "--profile", profile,
        "--constraint", f"kind=max_duration,seconds={PROBE_S:.0f}",
        "--metrics", json.dumps({"kind": "generative", "slo": limits}),
        "--tokenizer", f"kind=huggingface_auto,model={search.model.resolve()}",
        "--data", f"kind=json_file,path={search.prompts}", "--output", f"kind=json,path={out}", "--disable-console",
    ])  # fmt: skip
    return failure or guidellm_answer(json.loads(out.read_text(encoding="utf-8")), search.share)


def guidellm_answer(report: Mapping[str, Any], share: float) -> str:
    """The highest number of concurrent requests that its report shows to keep the SLO, and the rate at it."""
    probes = {}
    for benchmark in report["benchmarks"]:
        metrics = benchmark["metrics"]
        streams = benchmark["config"]["strategy"]["streams"]
        probes[streams] = (metrics["slo_attainment"], metrics["requests_per_second"]["successful"]["mean"])
    kept = [streams for streams, (attainment, _) in probes.items() if attainment is not None and attainment >= share]
    if not kept:
        return f"no number of concurrent requests of {sorted(probes)}"
    best = max(kept)
    beyond = min((streams for streams in probes if streams > best), default=None)
    return f"{best} concurrent requests ({probes[best][1]:.1f} requests/s), not {beyond}; {len(probes)} probes"


def aiperf_search(search: PeerSearch, program: str) -> str:
    """Run AIPerf's search; its answer in words."""
    endpoint, prompts = search.endpoint, search.folder / "aiperf_prompts.jsonl"
    rows = [json.loads(line)["prompt"] for line in search.prompts.read_text(encoding="utf-8").splitlines()]
    prompts.write_text("\n".join(json.dumps({"text": row}) for row in rows), encoding="utf-8")
    quantile = f"p{100 * search.share:g}"
    limits = [
        f"--search-sla={_AIPERF_METRICS[name]}:{quantile}:le:{1e3 * limit:g}"
        for name, limit in search.slo.limits.items()
    ]
    limits.append(f"--error-rate-sla={search.slo.error_rate_max}")  # the recipe's other limits have fixed quantiles
    out = search.folder / "aiperf"
    floors = ("FIRST_PROBE_WARMUP_FLOOR", "REPLICATE_WARMUP_FLOOR", "DEFAULT_WARMUP_SECONDS")
    environment = {f"AIPERF_SEARCH_PLANNER_{name}": f"{WARM_UP_S}" for name in floors}
    failure = _run(environment, [  # it takes a tokenizer from a folder only where it may ask the hub
        program, "profile", f"--url={endpoint.base_url}", f"--model={endpoint.model}", "--endpoint-type=completions",
        "--streaming", f"--tokenizer={search.model.resolve()}", f"--api-key={endpoint.api_key or 'none'}",
        f"--input-file={prompts}", "--custom-dataset-type=single_turn", "--extra-inputs=temperature:0",
        f"--extra-inputs=max_tokens:{search.max_tokens}", f"--benchmark-duration={PROBE_S:.0f}",
        "--search-recipe=max-concurrency-under-sla", f"--concurrency-max={search.reach:.0f}", *limits,
        "--ui=none", f"--output-artifact-dir={out}",
    ])  # fmt: skip
    return failure or aiperf_answer(json.loads((out / "search_history.json").read_text(encoding="utf-8")))


def aiperf_answer(history: Mapping[str, Any]) -> str:
    """The highest number of concurrent requests that its history says is feasible."""
    boundary = history["boundary_summary"]
    feasible, beyond = boundary["feasible_max"], boundary["infeasible_min"]
    words = f"{feasible['value']:.0f} concurrent requests" if feasible else "no number of concurrent requests"
    limit = f", not {beyond['value']:.0f}" if beyond else ""
    return f"{words}{limit}; {len(history['iterations'])} probes, {history['convergence_reason']}"


def _run(environment: Mapping[str, str], command: Sequence[str]) -> str:
    """Run a tool; empty, or why it failed with its last words."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if not done.returncode:
        return ""
    last = "\n".join((done.stdout + done.stderr).splitlines()[-_LINES:])
    return f"exit code {done.returncode}:\n\n```text\n{last}\n```"
