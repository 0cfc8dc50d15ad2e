"""Hydra's grammar: every value is read as it was."""

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from optimize.config.grammar import override_value

TEXTS = st.text(st.sampled_from("$%\"'\\`{}()[]*?;&|<>~#!= -_a0Ü研é.:/,@^+"), max_size=12)
WORDS = [
    "true",
    "None",
    "null",
    "1",
    "1e3",
    "inf",
    "${oc.env:HOME}",
    "a\\'b\\",
    "\\${a}",
    "\\\\${",
    "",
    " ",
    "a,b",
    "{a: 1}",
    "[1]",
]


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(TEXTS | st.sampled_from(WORDS) | st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9))
def test_hydra_reads_the_value(value: object) -> None:
    override = OverridesParser.create().parse_override(f"+at.x={override_value(value)}")
    assert OmegaConf.create({"x": override.value()})["x"] == value
