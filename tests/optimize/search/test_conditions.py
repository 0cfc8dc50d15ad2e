"""Knobs that count under a condition only."""

from typing import Any

import pytest

from optimize.errors import ConfigError
from tests.optimize.search.spaces import CHECKPOINTS, space_of

CONDITIONAL: dict[str, Any] = {
    "quantization": ["fp16", "int8"],
    "beam_size": [1, 2],
    "block_size": {
        "_target_": "optuna.distributions.CategoricalDistribution", "choices": [16, 32],
        "when": {"quantization": ["fp16"]},
    },
}  # fmt: skip


def test_a_knob_that_does_not_count_is_not_set_and_equal_engines_are_equal_points() -> None:
    space = space_of(CONDITIONAL)
    one, other = ({"quantization": "int8", "beam_size": 1, "block_size": k} for k in (16, 32))
    assert space.resolve(one, CHECKPOINTS) == space.resolve(other, CHECKPOINTS)
    assert space.canonical(one) == space.canonical(other) == one
    counts = {**other, "quantization": "fp16"}
    assert dict(space.resolve(counts, CHECKPOINTS).engine.flags)["block_size"] == 32
    assert space.canonical(counts) == counts
    assert "block_size" not in dict(space.resolve(other, CHECKPOINTS).engine.flags)


def test_a_knob_without_choice_may_be_left_out() -> None:
    space = space_of(CONDITIONAL)
    assert space.canonical({"beam_size": 2, "block_size": 32}) == {"beam_size": 2, "block_size": 32}


def test_a_changed_condition_is_another_space() -> None:
    always = {**CONDITIONAL, "block_size": [16, 32]}
    assert space_of(CONDITIONAL).fingerprint() != space_of(always).fingerprint()


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"quantisation": ["fp16"]}, "'quantisation' is no knob"),
        ({"quantization": ["fp61"]}, "quantization is never 'fp61'"),
        ({"quantization": "fp16"}, "must map other knobs to lists"),
        ({"quantization": ["fp16", "fp16"]}, r"block_size\.when\.quantization holds 'fp16' twice: leave one out"),
        ({"block_size": [16]}, "depends on 'block_size' itself"),
    ],
)
def test_impossible_conditions_are_refused(when: dict[str, Any], message: str) -> None:
    node = {**CONDITIONAL["block_size"], "when": when}
    with pytest.raises(ConfigError, match=message):
        space_of({**CONDITIONAL, "block_size": node})


def test_a_condition_may_rest_on_a_knob_with_one_and_never_on_itself() -> None:
    chain = {**CONDITIONAL, "max_num_seqs": {"choices": [8, 16], "when": {"block_size": [32]}}}
    space = space_of(chain)
    point = {"quantization": "fp16", "beam_size": 1, "block_size": 32, "max_num_seqs": 16}
    assert space.counts("max_num_seqs", point)
    assert not space.counts("max_num_seqs", {**point, "quantization": "int8"})
    ring = {**chain, "quantization": {"choices": ["fp16", "int8"], "when": {"max_num_seqs": [8]}}}
    with pytest.raises(ConfigError, match="depends on 'quantization' itself"):
        space_of(ring)
