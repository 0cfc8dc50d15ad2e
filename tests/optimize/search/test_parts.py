"""Parts of flags that take JSON are knobs by their path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from optimize.config.compose import configuration
from optimize.config.grammar import override_value
from optimize.config.schema import Model
from optimize.engine.flags import check_flags
from optimize.errors import ConfigError
from optimize.search.space import SearchSpace, make_space
from optimize.study.target import only_point
from tests.optimize.search.spaces import CHECKPOINTS, RECIPES, space_of

METHOD, TOKENS = "speculative_config.method", "speculative_config.num_speculative_tokens"
NODES: dict[str, Any] = {
    "beam_size": [1, 2],
    METHOD: {"choices": [None, "ngram"], "when": {"beam_size": [1]}},
    TOKENS: {"low": 1, "high": 8, "when": {METHOD: ["ngram"]}},
}
WORDS = [
    "+study=chat", "+search_space.speculative_config.method=[null,ngram]",
    "+search_space.speculative_config.num_speculative_tokens="
    "{low: 1, high: 8, when: {speculative_config.method: [ngram]}}",
]  # fmt: skip


def _speculation(space: SearchSpace, params: dict[str, Any]) -> Any:
    text = dict(space.resolve(params, CHECKPOINTS).engine.flags).get("speculative_config")
    return None if text is None else json.loads(text)


def _fixed(nodes: dict[str, Any], **flags: Any) -> SearchSpace:
    return make_space(nodes, Model("demo", "demo/model", flags), RECIPES, RECIPES["published"], {})


def test_parts_are_put_together_and_what_has_no_effect_is_left_out() -> None:
    space = space_of(NODES)
    assert space.engine_flags == ["speculative_config"]
    drafting = {"beam_size": 1, METHOD: "ngram", TOKENS: 3}
    assert _speculation(space, drafting) == {"method": "ngram", "num_speculative_tokens": 3}
    assert _speculation(space, {**drafting, METHOD: None}) is None
    assert _speculation(space, {**drafting, "beam_size": 2}) is None, "a condition holds through another knob"


def test_points_of_one_engine_are_one_point() -> None:
    space = space_of(NODES)
    without = [{"beam_size": b, METHOD: m, TOKENS: n} for b, m in ((1, None), (2, "ngram")) for n in (2, 5)]
    assert len({tuple(space.canonical(p).items()) for p in without}) == 2
    assert space.resolve(without[2], CHECKPOINTS).engine == space.resolve(without[0], CHECKPOINTS).engine


def test_parts_stand_beside_what_the_model_fixes_of_the_same_flag() -> None:
    space = _fixed(
        {"compilation_config.pass_config.fuse_norm_quant": [True, False],
         "compilation_config.cudagraph_capture_sizes": ["[1, 2]", None]},
        compilation_config={"mode": 3, "pass_config": {"enable_sp": True}},
    )  # fmt: skip
    fuse, sizes = space.distributions
    flags = dict(space.resolve({fuse: False, sizes: "[1, 2]"}, CHECKPOINTS).engine.flags)
    assert json.loads(flags["compilation_config"]) == {
        "mode": 3, "pass_config": {"enable_sp": True, "fuse_norm_quant": False}, "cudagraph_capture_sizes": [1, 2],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "flags", "message"),
    [
        ({METHOD: ["ngram"], "speculative_config": [None]}, {}, "both set 'speculative_config'"),
        ({"a.b": [1], "a.b.c": [1]}, {}, r"both set 'a\.b'"),
        (
            {METHOD: ["ngram"]},
            {"speculative_config": {"method": "ngram"}},
            r"fixed by model\.flags\.speculative_config",
        ),
        ({METHOD: ["ngram"]}, {"speculative_config": "{}"}, r"fixed by model\.flags\.speculative_config"),
    ],
)
def test_what_is_set_twice_is_refused(nodes: dict[str, Any], flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _fixed(nodes, **flags)


def test_vllms_default_of_a_part_is_what_the_engine_reports_of_it() -> None:
    space = space_of({**NODES, "compilation_config.mode": {"low": 0, "high": 3}})
    effective = {"speculative_config": None, "compilation_config": {"mode": 2, "backend": "inductor"}}
    params, outside = space.baseline_params(effective)
    assert (params[METHOD], params["compilation_config.mode"], outside) == (None, 2, [])


def test_words_of_the_command_line_become_knobs_and_a_row_is_measured_by_its_words() -> None:
    config = configuration(WORDS)
    assert config.search_space[METHOD] == [None, "ngram"]
    space = make_space(config.search_space, config.model, config.recipes, config.quantization, {})
    row = {METHOD: "ngram", TOKENS: 3}
    again = configuration(["+study=chat", *(f"+at.{knob}={override_value(value)}" for knob, value in row.items())])
    point = only_point(again, "by-hand").search_space
    assert json.loads(point["speculative_config"][0]) == _speculation(space, {"beam_size": 1, **row})


def test_a_part_without_a_value_is_none_by_hand_either() -> None:
    assert configuration(["+study=chat", "+at.speculative_config.method=null"]).at == {"speculative_config": None}


def test_the_baseline_has_parts_too() -> None:
    config = configuration([*WORDS, "+baseline.speculative_config.num_speculative_tokens=2"])
    assert config.baseline == {TOKENS: 2}


def test_a_misspelt_part_is_answered_with_the_nearest_field() -> None:
    check_flags([METHOD, TOKENS, "compilation_config.pass_config.fuse_norm_quant", "hf_overrides.anything"])
    with pytest.raises(ConfigError, match="did you mean 'num_speculative_tokens'"):
        check_flags(["speculative_config.num_speculative_token"])
    with pytest.raises(ConfigError, match="no field of vLLM's pass_config"):
        check_flags(["compilation_config.pass_config.fuse_everything"])
