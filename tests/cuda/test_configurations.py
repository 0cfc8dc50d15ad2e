"""What the CUDA build makes of configurations for an H100, without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optimize.engine.flags import SAME_CODE
from tests.conftest import ROOT
from tests.cuda.conftest import Rig

pytestmark = [pytest.mark.cuda, pytest.mark.timeout(900)]
SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 32768, "max_position_embeddings": 8192, "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True, "dynamic": False}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True, "dynamic": False}
FP8 = {**INT8, "type": "float"}
TOKENS = {"strategy": "token", "dynamic": True, "symmetric": True}


def quantized(weights: dict[str, Any], format_: str, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None}
    return {
        "quant_method": "compressed-tensors", "format": format_, "ignore": ["lm_head"],
        "quantization_status": "compressed", "config_groups": {"group_0": group},
    }  # fmt: skip


RECIPES = {
    "int8": quantized(INT8, "int-quantized", {"num_bits": 8, "type": "int", **TOKENS}),
    "int4": quantized(INT4, "pack-quantized"),
    "fp8": quantized(FP8, "float-quantized", {"num_bits": 8, "type": "float", **TOKENS}),
    "int9": quantized({**INT4, "num_bits": 9}, "pack-quantized"),  # vLLM (0.32) has kernels for 2 to 8 bits
}


def model(folder: Path, quantization: dict[str, Any] | None = None) -> str:
    """A Llama of 8 billion parameters' shapes, of two layers and without weights."""
    folder.mkdir(parents=True)
    extra = {} if quantization is None else {"quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps({**SHAPE, **extra}), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((ROOT / "demo/model" / name).read_bytes())
    return str(folder)


REFUSALS = """
import json, sys
from optimize.engine.base import EngineConfig
from optimize.engine.vllm import VllmLauncher

engines = {name: EngineConfig(path, name, (("dtype", "bfloat16"),)) for name, path in json.loads(sys.argv[1])}
launcher = VllmLauncher(start="warm")
launcher.prepare()
print(json.dumps({name: str(reason) for name, reason in launcher.refusals(engines).items()}))
launcher.close()
"""


@pytest.mark.parametrize("capability", ["80", "90"])
def test_vllm_says_which_recipes_it_has_no_kernel_for(rig: Rig, capability: str) -> None:
    engines = [[name, model(rig.scratch / name, config)] for name, config in RECIPES.items()]
    refused = rig.run(REFUSALS, *engines, NVML_STUB_CAPABILITY=capability)
    assert set(refused) == {"int9"} and "num_bits = 9" in refused["int9"]


COMPOSE = """
import json, sys
from optimize.engine.flags import to_arguments
from optimize.engine.serve import parsed
from vllm import __version__ as release
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

path, variants = json.loads(sys.argv[1])
answers = {"release": release}
for name, flags in variants.items():
    arguments = [path, "--dtype=bfloat16", *to_arguments(tuple(flags.items()))]
    config = AsyncEngineArgs.from_cli_args(parsed(arguments)).create_engine_config(UsageContext.OPENAI_API_SERVER)
    answers[name] = {"sequences": config.scheduler_config.max_num_seqs, "key": config.compute_hash()}
print(json.dumps(answers))
"""
FLAGS: dict[str, dict[str, object]] = {
    "default": {}, "fp8": {"quantization": "fp8"}, "kv": {"kv_cache_dtype": "fp8"}, "level": {"optimization_level": 1},
    "mode": {"performance_mode": "throughput"}, "backend": {"attention_backend": "FLASHINFER"},
    "graphs": {"compilation_config": {"cudagraph_mode": "FULL_DECODE_ONLY"}}, "data": {"data_parallel_size": 2},
    "ngram": {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}},
    "size": {"max_num_seqs": 512}, "overlap": {"async_scheduling": False}, "logprobs": {"max_logprobs": 64},
}  # fmt: skip
SHARED: dict[str, object] = {
    "api_server_count": 2, "enable_prefix_caching": False, "gpu_memory_utilization": 0.8,
    "kv_cache_memory_bytes": 1 << 30, "logprobs_mode": "raw_logits", "num_gpu_blocks_override": 512,
    "prefix_caching_hash_algo": "sha256_cbor", "scheduling_policy": "priority", "seed": 7, "stream_interval": 4,
}  # fmt: skip
"""A value of each flag that is to leave the key of compiled code as it is, other than vLLM's default."""


def test_flags_of_gpus_compose_and_those_that_share_code_have_one_key(rig: Rig) -> None:
    path = model(rig.scratch / "plain")
    variables = {"NVML_STUB_GPUS": "2", "TMPDIR": str(rig.scratch)}
    variants = {**FLAGS, **{name: {name: value} for name, value in SHARED.items()}}
    answers = rig.run(COMPOSE, path, variants, OPTIMIZE_ENGINE_KEY="one", **variables)
    another = rig.run(COMPOSE, path, {"default": {}}, OPTIMIZE_ENGINE_KEY="another", **variables)
    assert another["default"] == answers["default"], "a key of its own must not compile anew"
    assert answers["default"]["sequences"] == 1024, "vLLM's own default on an H100"
    is_first = answers.pop("release").startswith("0.25.")
    alike = {name for name in answers if answers[name]["key"] == answers["default"]["key"]}
    assert set(SHARED) == SAME_CODE
    assert alike & set(SHARED) == SAME_CODE - ({"kv_cache_memory_bytes"} if is_first else set())
    assert not alike & {"overlap", "logprobs"}
    assert ("size" in alike) is is_first, "vLLM 0.25 has no number of sequences in its key, later ones have"
