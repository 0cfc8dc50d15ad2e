"""Flags of earlier vLLM releases, and what says the same today.

Names and releases come from comparing the argument parsers of vLLM 0.8.5, 0.10.0, 0.12.0, 0.16.0, 0.20.0, 0.25.0,
0.28.0, 0.30.0 and 0.32.0; those of the speculative decoding and of `worker_use_ray` are older.
"""

from __future__ import annotations

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "cuda_graph_sizes": "cudagraph_capture_sizes",
    "eplb_log_balancedness": "eplb_config.log_balancedness",
    "eplb_step_interval": "eplb_config.step_interval",
    "eplb_window_size": "eplb_config.window_size",
    "guided_decoding_backend": "structured_outputs_config.backend",
    "guided_decoding_disable_additional_properties": "structured_outputs_config.disable_additional_properties",
    "guided_decoding_disable_any_whitespace": "structured_outputs_config.disable_any_whitespace",
    "ngram_prompt_lookup_max": "speculative_config.prompt_lookup_max",
    "ngram_prompt_lookup_min": "speculative_config.prompt_lookup_min",
    "num_redundant_experts": "eplb_config.num_redundant_experts",
    "num_speculative_tokens": "speculative_config.num_speculative_tokens",
    "override_neuron_config": "additional_config",
    "override_pooler_config": "pooler_config",
    "rope_scaling": "hf_overrides.rope_parameters",
    "rope_theta": "hf_overrides.rope_parameters.rope_theta",
    "speculative_draft_tensor_parallel_size": "speculative_config.draft_tensor_parallel_size",
    "speculative_max_model_len": "speculative_config.max_model_len",
    "speculative_model": "speculative_config.model",
}
"""Former name -> the flag, and the key within its JSON, that means the same."""

_ONE_STEP = "vLLM schedules one step at a time, overlapped by async_scheduling"
_PROMPT_ADAPTERS = "vLLM has no prompt adapters any more; adapters are given by lora_modules"
_NO_POOL = "one process tokenizes; more front-end processes are api_server_count"
GONE: Mapping[str, str] = {
    "calculate_kv_scales": "the scales of an FP8 cache are those of the checkpoint",
    "device": "the build of vLLM decides on the device",
    "disable_async_output_proc": "the V1 engine always processes outputs beside the next step",
    "disable_frontend_multiprocessing": "the server and the engine are always processes of their own",
    "disable_log_requests": "requests are not logged unless enable_log_requests=true is set: leave it out",
    "disable_mm_preprocessor_cache": "the same is mm_processor_cache_gb=0",
    "enable_lora_bias": "adapters with a bias are no longer served",
    "enable_multimodal_encoder_data_parallel": "the same is mm_encoder_tp_mode=data",
    "enable_prompt_adapter": _PROMPT_ADAPTERS,
    "enable_reasoning": "reasoning_parser alone turns it on",
    "guided_decoding_disable_fallback": "vLLM never falls back to another backend",
    "lora_extra_vocab_size": "adapters with tokens of their own are no longer served",
    "long_lora_scaling_factors": "adapters for longer contexts are no longer served",
    "max_long_partial_prefills": "long prompts are bounded by long_prefill_token_threshold",
    "max_num_partial_prefills": "prompts that are processed together are bounded by max_num_batched_tokens",
    "max_prompt_adapter_token": _PROMPT_ADAPTERS,
    "max_prompt_adapters": _PROMPT_ADAPTERS,
    "max_seq_len_to_capture": "graphs are bounded by their batch: max_cudagraph_capture_size",
    "multi_step_stream_outputs": _ONE_STEP,
    "num_lookahead_slots": "slots follow from speculative_config",
    "num_scheduler_steps": _ONE_STEP,
    "override_attention_dtype": "the data type of attention is that of the model: dtype",
    "preemption_mode": "the V1 engine always recomputes preempted requests",
    "prompt_adapters": _PROMPT_ADAPTERS,
    "qlora_adapter_name_or_path": "adapters are given by lora_modules, beside quantization=bitsandbytes",
    "scheduler_delay_factor": "the V1 engine never delays a prompt",
    "swap_space": "the V1 engine recomputes in place of swapping; kv_offloading_size keeps cache in memory",
    "task": "the same is runner=generate or runner=pooling, with convert=embed or convert=classify",
    "tokenizer_pool_extra_config": _NO_POOL,
    "tokenizer_pool_size": _NO_POOL,
    "tokenizer_pool_type": _NO_POOL,
    "use_v2_block_manager": "there is only one block manager: leave it out",
    "worker_use_ray": "the same is distributed_executor_backend=ray",
}
"""Former name -> why it is gone, or what says the same."""
