"""Shapes of tiny models of several architectures, as `model.random` takes them; the demo's tokenizer fits all."""

from __future__ import annotations

from typing import Any

_ALL = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 512,
    "max_position_embeddings": 512, "dtype": "bfloat16",
}  # fmt: skip
_GATED = {**_ALL, "intermediate_size": 256, "num_key_value_heads": 1, "head_dim": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"model_type": "qwen3", **_GATED},
    "gemma3": {
        "model_type": "gemma3_text", **_GATED, "sliding_window": 64, "query_pre_attn_scalar": 64,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "opt": {"model_type": "opt", **_ALL, "ffn_dim": 256, "word_embed_proj_dim": 128, "dtype": "float16"},
    "qwen3_moe": {
        "model_type": "qwen3_moe", **_GATED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128,
    },
}  # fmt: skip
