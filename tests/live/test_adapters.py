"""Adapters and speculative decoding on a live engine: asked for by name, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from optimize.engine.adapters import flags_for
from optimize.engine.base import EngineConfig
from optimize.engine.metrics import parse_metrics
from optimize.engine.vllm_engine import VllmEngine
from tests.adapters import adapter
from tests.live.engines import FLAGS, MODEL, ROOT, LiveEngines

pytestmark = pytest.mark.live
PROMPTS = 8


def _answers(engine: VllmEngine, rows: range) -> list[str]:
    """Greedy answers to prompts of the demo's chat workload, each by the model that its row asks for."""
    lines = (ROOT / "demo/workloads/chat.jsonl").read_text(encoding="utf-8").splitlines()[:PROMPTS]
    with httpx.Client(base_url=engine.endpoint.base_url, headers=engine.endpoint.headers, timeout=60) as http:
        return [_answer(http, engine.endpoint.asked(row), json.loads(lines[row % PROMPTS])["prompt"]) for row in rows]


def _answer(http: httpx.Client, model: str, prompt: str) -> str:
    body = {"model": model, "prompt": prompt, "max_tokens": 24, "temperature": 0}
    answer = http.post("/v1/completions", json=body).raise_for_status().json()
    return str(answer["choices"][0]["text"])


def test_prompts_ask_for_their_adapters_and_adapters_answer_as_they_are(
    live_engines: LiveEngines, tmp_path: Path
) -> None:
    """An adapter of zeros answers as the model does, another one differently."""
    paths = {
        "zeros": str(adapter(tmp_path / "zeros", scale=0)),
        "loud": str(adapter(tmp_path / "loud", rank=32, scale=1)),
    }
    flags = (*FLAGS, *flags_for(paths).items())
    with live_engines.lease() as lease:
        plain = _answers(lease.engine, range(PROMPTS))  # type: ignore[arg-type]
    with live_engines.launch(EngineConfig(MODEL, "fp16", flags)) as engine:
        assert (engine.endpoint.model, engine.endpoint.others) == ("zeros", ("loud",))
        received = _answers(engine, range(PROMPTS))
    same = [ours == theirs for ours, theirs in zip(received, plain, strict=True)]
    assert all(same[0::2]) and not any(same[1::2])


def test_speculative_decoding_gives_the_same_answers_and_tells_what_was_accepted(live_engines: LiveEngines) -> None:
    ngram = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}
    with live_engines.lease() as lease:
        plain = _answers(lease.engine, range(PROMPTS))  # type: ignore[arg-type]
    config = EngineConfig(MODEL, "fp16", (*FLAGS, ("speculative_config", json.dumps(ngram))))
    with live_engines.launch(config) as engine:
        received = _answers(engine, range(PROMPTS))
        figures = parse_metrics(httpx.get(f"{engine.endpoint.base_url}/metrics", headers=engine.endpoint.headers).text)
    assert received == plain
    assert 0 <= figures["accepted_tokens"] <= figures["draft_tokens"]
