"""The memory benchmark's arithmetic."""

from dataclasses import replace

import pytest

from benchmarks.memory import MIB, Seen, predicted_bytes, report, weights_table
from objectives import MemoryParts

SHAPE = {
    "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 2, "vocab_size": 10, "tie_word_embeddings": False,
}  # fmt: skip
MATRICES, ENDS, NORMS = 2 * (2 * 4 * 4 + 2 * 2 * 4 + 3 * 8 * 4), 2 * 10 * 4, 5 * 4
PARTS = MemoryParts(
    weights_bytes=100 * MIB, kv_pool_bytes=60 * MIB, kv_block_tokens=16, kv_block_bytes=1, max_sequences=8,
    activations_bytes=30 * MIB, process_tree_bytes=0, checkpoint_bytes=90 * MIB, kv_resident_bytes=50 * MIB,
)  # fmt: skip


@pytest.mark.parametrize(("bits", "each"), [(16, 2.0), (8, 1.0), (4, 0.5)])
def test_bits_count_for_the_decoders_matrices_and_sixteen_for_the_rest(bits: int, each: float) -> None:
    assert predicted_bytes(SHAPE, bits) == MATRICES * each + 2 * (ENDS + NORMS)


def test_held_memory_counts_the_pools_pages_and_needed_memory_the_blocks_in_use() -> None:
    seen = Seen(PARTS, kv_in_use_bytes=7.0 * MIB, peak_bytes=0)
    assert seen.sum_bytes == (100 + 50 + 30) * MIB
    assert seen.needed_bytes == (100 + 7 + 30) * MIB


def test_growth_is_beside_an_engine_with_next_to_nothing() -> None:
    nothing = replace(PARTS, weights_bytes=MIB, kv_resident_bytes=MIB, activations_bytes=0)
    beside = [Seen(nothing, 0.0, 502 * MIB)]  # 500 of them its own
    table = report({"FP16": [Seen(PARTS, 0.0, 700 * MIB)]}, beside)
    assert "| FP16 | 90 | 100 | 60 | 0 | 30 | 130 | 180 | 200 | 0.900 |" in table
    assert "beside its model: 500 MiB" in table


def test_weights_beside_the_prediction_from_their_bits() -> None:
    table = weights_table({**SHAPE, "vocab_size": 10 * MIB}, {"INT8": [Seen(PARTS, 0.0, 0)]})
    assert "| INT8 | 160 | 90 | 0.562 | 100 | 0.625 |" in table
