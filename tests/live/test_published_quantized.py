"""Checkpoints that were published quantized: vLLM serves them without a flag, or refuses them with its reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import httpx
import pytest

from optimize.config.compose import configuration
from optimize.engine.base import EngineConfig
from optimize.engine.flags import to_arguments
from optimize.engine.vllm import VllmLauncher
from optimize.engine.vllm_engine import VllmEngine
from optimize.evaluation.data_type import data_type_of
from optimize.hardware import machine
from optimize.search.space import make_space
from tests.live.engines import ROOT, LiveEngines
from tests.packed import CONFIGS, checkpoint, described

pytestmark = pytest.mark.live
ANSWERS = 16
QUICK = (("enforce_eager", True), ("kv_cache_memory_bytes", 1 << 27), ("max_model_len", 256))
"""What makes the start quick and has no influence on how weights are read."""


def published(model: Path) -> EngineConfig:
    """The engine of the recipe `published`: no flag but those that make the start quick."""
    config = configuration(["+study=chat", "search_space.quantization=null"])
    own = dataclasses.replace(config.model, path=str(model), flags={})
    space = make_space(config.search_space, own, config.recipes, config.quantization, {})
    engine = space.vllm_defaults({"published": str(model)}).engine
    assert to_arguments(engine.flags) == []
    return dataclasses.replace(engine, flags=QUICK)


def answers(engine: VllmEngine) -> list[str]:
    """Greedy answers to the first prompts of the demo's chat workload."""
    lines = (ROOT / "demo/workloads/chat.jsonl").read_text(encoding="utf-8").splitlines()[:ANSWERS]
    body = {
        "model": engine.endpoint.model, "prompt": [json.loads(line)["prompt"] for line in lines], "max_tokens": 24,
        "temperature": 0,
    }  # fmt: skip
    url, headers = f"{engine.endpoint.base_url}/v1/completions", engine.endpoint.headers
    answer = httpx.post(url, json=body, headers=headers, timeout=60).raise_for_status()
    return [choice["text"] for choice in answer.json()["choices"]]


def test_three_packings_of_the_same_integers_are_served_and_give_the_same_answers(
    live_engines: LiveEngines, tmp_path: Path
) -> None:
    engines = {kind: published(checkpoint(tmp_path / kind, kind)) for kind in CONFIGS}
    refusals = live_engines.launcher.refusals(engines)
    # vLLM's library for processors without AVX-512 has no kernel for four bits.
    assert set(refusals) == (set(CONFIGS) if "AVX2" in machine() else set())
    received = {}
    for kind in engines.keys() - refusals.keys():
        with live_engines.launch(engines[kind]) as engine:
            assert data_type_of(engines[kind], engine) == f"{kind} int4, float16"
            received[kind] = answers(engine)
    plain_engine = published(ROOT / "demo/model")
    with live_engines.launch(plain_engine) as engine:
        assert data_type_of(plain_engine, engine) == "float16"
        plain = answers(engine)
    for kind, texts in received.items():
        assert texts == received["gptq"], kind
        # Four bits change an answer here and there; integers that are read in a wrong order leave none as it was.
        assert len(plain) // 2 <= sum(ours == theirs for ours, theirs in zip(texts, plain, strict=True)), kind


def test_what_vllm_cannot_serve_is_refused_with_its_reason_before_a_start(
    live_vllm: VllmLauncher, tmp_path: Path
) -> None:
    three_bits = described(tmp_path / "three", quantization_config={**CONFIGS["gptq"], "bits": 3})
    (refusal,) = live_vllm.refusals({"published": published(three_bits)}).values()
    assert "Unsupported quantization config: bits=3" in str(refusal) and "input_value" not in str(refusal)
