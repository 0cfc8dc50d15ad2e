"""Points as rows of numbers."""

from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from optimize.search.encoding import Encoding, every_point, is_unordered

SPACE: dict[str, BaseDistribution] = {
    "beam_size": CategoricalDistribution([8, 1, 2]),
    "kind": CategoricalDistribution(["a", None]),
    "flag": CategoricalDistribution([True, False]),
    "n": IntDistribution(1, 5),
    "batch": IntDistribution(1, 256, log=True),
}


def test_numbers_are_ordered_among_choices_too_and_logarithms_are_even() -> None:
    encoding = Encoding(SPACE)
    points: list[dict[str, Any]] = [
        {"beam_size": 8, "kind": "a", "flag": False, "n": 2, "batch": 16},
        {"beam_size": 2, "kind": None, "flag": True, "n": 5, "batch": 1},
    ]
    assert encoding.rows(points) == pytest.approx(np.array([[1, 0, 1, 0.25, 0.5], [0.5, 1, 0, 1, 0]]))
    assert encoding.categorical.tolist() == [False, True, True, False, False]
    assert encoding.rows([]).shape == (0, 5)


def test_a_number_that_is_no_choice_lies_between_those_beside_it() -> None:
    assert Encoding({"beam_size": SPACE["beam_size"]}).rows([{"beam_size": 5}]) == pytest.approx(np.array([[0.75]]))


def test_choices_that_are_not_all_numbers_have_no_order() -> None:
    assert [name for name, d in SPACE.items() if is_unordered(d)] == ["kind", "flag"]
    assert is_unordered(CategoricalDistribution([1, "auto"]))


def test_every_point_where_they_are_few() -> None:
    space: dict[str, BaseDistribution] = {
        "k": CategoricalDistribution("ab"), "n": IntDistribution(0, 4, step=2), "x": FloatDistribution(0, 1, step=0.5)
    }  # fmt: skip
    result = every_point(space, 18)
    assert result is not None and len(result) == 18
    assert {p["n"] for p in result} == {0, 2, 4} and {p["x"] for p in result} == {0.0, 0.5, 1.0}
    assert every_point(space, 17) is None
    assert every_point({"x": FloatDistribution(0, 1)}, 10**9) is None


def test_numbers_beyond_saturation_lie_close_together_and_in_order() -> None:
    space: dict[str, BaseDistribution] = {"batch": IntDistribution(1, 256, log=True), "kind": SPACE["kind"]}
    encoding = Encoding(space, {"batch": 16, "kind": 1, "no knob": 1})
    result = encoding.rows([{"batch": b, "kind": None} for b in (1, 4, 16, 64, 256)])
    assert result[:, 0] == pytest.approx(np.array([0, 5, 10, 10.5, 11]) / 11)
    assert result[:, 1].tolist() == [1] * 5  # what has no order has no beyond


@pytest.mark.parametrize("saturation", [256, 1000, 0.5])
def test_saturation_outside_of_a_range_changes_nothing(saturation: float) -> None:
    space: dict[str, BaseDistribution] = {"batch": IntDistribution(1, 256, log=True)}
    points = [{"batch": b} for b in (1, 3, 16, 100, 256)]
    assert Encoding(space, {"batch": saturation}).rows(points) == pytest.approx(Encoding(space).rows(points))
