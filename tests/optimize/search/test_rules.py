"""Rules that forbid combinations: what they may hold, when they hold, and that nothing else is ever run."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from optimize.errors import ConfigError
from optimize.search.rules import Rule
from tests.optimize.search.spaces import range_of, space_of

NODES: dict[str, Any] = {
    "quantization": ["published", "int8"],
    "batch_size": range_of(1, 256, log=True),
    "beam_size": [1, 2, 4],
    "speculative_config.method": {"choices": [None, "ngram"], "when": {"beam_size": [1]}},
    "speculative_config.num_speculative_tokens": {
        "low": 1, "high": 8, "when": {"speculative_config.method": ["ngram"]},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "settings", "holds"),
    [
        ("a * b > 8", {"a": 3, "b": 3}, True),
        ("a * b > 8", {"a": 2, "b": 4}, False),
        ("a * b > 8", {"a": 3}, False),
        ("1 < a < 3", {"a": 2}, True),
        ("1 < a < 3", {"a": 3}, False),
        ("a > 1 and not (b == 'x' or b == 'y')", {"a": 2, "b": "z"}, True),
        ("a > 1 and not (b == 'x' or b == 'y')", {"a": 2, "b": "y"}, False),
        ("b in ['x', 'y']", {"b": "x"}, True),
        ("b not in ('x', 'y')", {"b": "x"}, False),
        ("a == null", {}, True),
        ("a != null and a < 5", {}, False),
        ("a.b.c % 2 == 1", {"a.b.c": 7}, True),
        ("switch and -a // 2 - 1 < -1.5", {"switch": True, "a": 2}, True),
        ("switch == false", {"switch": False}, True),
        ("a / b > 1", {"a": 1, "b": 0}, False),
        ("a > 4", {"a": "auto"}, False),
        ("(a + 1) * 2 == 6", {"a": 2}, True),
    ],
)
def test_a_rule_holds_or_not(text: str, settings: dict[str, Any], holds: bool) -> None:
    assert Rule(text).holds(settings) is holds
    assert pickle.loads(pickle.dumps(Rule(text))).holds(settings) is holds, "as a worker gets it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('true')", "is no condition"),
        ("__import__('os').system('true') == 0", "may not hold"),
        ("().__class__.__bases__", "may not hold"),
        ("batch_size.__class__ == 1", "'batch_size.__class__' is no knob"),
        ("[x for x in (1, 2)] == 1", "may not hold"),
        ("(lambda: 1) == 1", "may not hold"),
        ("batch_size ** 99 > 1", "may not hold"),
        ("batch_size[0] > 1", "may not hold"),
        ("f'{batch_size}' == '1'", "may not hold"),
        ("batch_size is 4", "by == or !="),
        ("batch_size * 2", "is no condition"),
        ("8", "is no condition"),
        ("batch_size >", "cannot be read"),
        ("batch_size = 4", "cannot be read"),
        ("", "cannot be read"),
        ("(" * 400 + "1" + ")" * 400, "cannot be read"),
        ("batchsize > 8", "'batchsize' is no knob of the search space; did you mean 'batch_size'"),
        ("quantization > 8", "computes with texts"),
        ("batch_size > 0", "leaves no point of the search space"),
        ("batch_size > 1" + " " * 1000, "too long"),
        (3, "must be a list of rules"),
    ],
)
def test_a_rule_that_says_nothing_sensible_is_refused(text: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space_of({**NODES, "forbid": [text]})


def test_a_rule_stands_once() -> None:
    with pytest.raises(ConfigError, match=r"search_space\.forbid holds 'workers > 1' twice: leave one out"):
        space_of({**NODES, "forbid": ["workers > 1", "beam_size > 2", "workers > 1"]})


def test_a_rule_may_use_the_names_of_flags_and_what_the_model_fixes() -> None:
    space = space_of({**NODES, "forbid": ["max_num_seqs * beam_size > max_model_len"]})
    assert not space.allows({"batch_size": 200, "beam_size": 2})
    assert space.allows({"batch_size": 128, "beam_size": 2})


def test_a_knob_that_is_left_out_takes_its_rules_with_it() -> None:
    space = space_of({**NODES, "workers": None, "forbid": ["workers > 1", "beam_size > 2"]})
    assert [rule.text for rule in space.rules] == ["beam_size > 2"]


def test_a_knob_without_effect_has_no_value_in_a_rule() -> None:
    space = space_of({**NODES, "forbid": ["speculative_config.num_speculative_tokens > 4 and batch_size > 16"]})
    many = {"batch_size": 32, "beam_size": 1, "speculative_config.num_speculative_tokens": 6}
    assert not space.allows({**many, "speculative_config.method": "ngram"})
    assert space.allows({**many, "speculative_config.method": None})
    assert space.allows({**many, "speculative_config.method": "ngram", "beam_size": 2})


def test_a_knob_with_one_value_counts_where_a_sampler_leaves_it_out() -> None:
    space = space_of({**NODES, "workers": [4], "forbid": ["workers * beam_size > 8"]})
    assert not space.allows({"beam_size": 4})


def test_a_forbidden_point_moves_as_little_as_it_must() -> None:
    space = space_of({**NODES, "forbid": ["batch_size * beam_size > 256"]})
    point = {"quantization": "int8", "batch_size": 140, "beam_size": 2}
    moved = space.canonical(point)
    assert space.allows(moved)
    assert sum(moved[name] != value for name, value in point.items()) == 1
    permitted = {**point, "batch_size": 100}
    assert space.canonical(permitted) == permitted


def test_where_no_single_move_helps_the_point_goes_to_one_that_is_permitted() -> None:
    space = space_of({"batch_size": [1, 2, 3], "beam_size": [1, 2, 4], "forbid": ["batch_size + beam_size > 2"]})
    assert space.canonical({"batch_size": 3, "beam_size": 4}) == {"batch_size": 1, "beam_size": 1}


def test_other_rules_are_another_space_and_none_are_the_space_of_before() -> None:
    ruled = space_of({**NODES, "forbid": ["batch_size > 64"]}).fingerprint()
    assert ruled.pop("forbid") == '["batch_size > 64"]'
    assert ruled == space_of(NODES).fingerprint() == space_of({**NODES, "forbid": []}).fingerprint()
