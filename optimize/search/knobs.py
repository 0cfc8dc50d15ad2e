"""What a knob sets.

A knob is one of this project's four (quantization, batch_size, beam_size, workers), a request field, any flag of the
installed vLLM by its own name, or a part of a flag that takes JSON (`speculative_config.method`).
"""

from __future__ import annotations

from optimize.engine.flags import KNOBS
from optimize.search import variables

QUANTIZATION, BEAM_SIZE = "quantization", "beam_size"
SEQUENCES_AT_ONCE = "max_num_seqs"
FLAG_OF_KNOB = KNOBS
REQUEST_FIELDS = frozenset(
    {
        "temperature", "top_p", "top_k", "min_p", "max_tokens", "length_penalty", "repetition_penalty",
        "presence_penalty", "frequency_penalty", "seed",
    }
)  # fmt: skip


def flag_of(knob: str) -> str:
    """The vLLM flag an engine knob sets, or sets a part of."""
    flag = knob if variables.is_variable(knob) else knob.partition(".")[0]
    return FLAG_OF_KNOB.get(flag, flag)


def part_of(knob: str) -> str:
    """The part of its flag that a knob sets, with dots where it lies deeper; empty for the whole flag."""
    return "" if variables.is_variable(knob) else knob.partition(".")[2]


def names_of(knob: str) -> tuple[str, ...]:
    """The names of a knob's value: its own, and that of the flag which it sets as a whole."""
    return tuple(dict.fromkeys((knob,) if part_of(knob) else (knob, flag_of(knob))))


def is_flag(knob: str) -> bool:
    """Whether the knob is a flag of vLLM, as neither variables of the environment nor checkpoints are."""
    return not is_request_knob(knob) and not variables.is_variable(knob) and knob != QUANTIZATION


def is_request_knob(knob: str) -> bool:
    """Whether changing the knob needs no new engine."""
    return knob == BEAM_SIZE or knob in REQUEST_FIELDS
