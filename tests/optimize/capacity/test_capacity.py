"""A capacity as a figure and as a record."""

import json
import math
from typing import Any

import pytest

from objectives import Estimate
from optimize.capacity import Capacity, Kind, Probe, Search, Unit

PROBES = (
    Probe(4.0, 5.0, 20, {"ttft_s": 1.0, "errors": 1.0}, True, 0.0),
    Probe(8.0, 7.0, 50, {"ttft_s": 0.9, "errors": 1.0}, None, 5.0),
)
BRACKETED = Capacity(Unit.PER_S, 6.0, 5.0, 7.0, Kind.BRACKETED, "ttft_s", PROBES, 10.0, 0.98)
AT_LEAST = Capacity(Unit.USERS, 64.0, 64.0, math.inf, Kind.AT_LEAST, "client", PROBES)


def test_a_capacity_is_a_figure_with_an_interval() -> None:
    assert BRACKETED.to_estimate() == Estimate(6.0, 5.0, 7.0, 70, "1/s")
    assert AT_LEAST.to_estimate() == Estimate(64.0, 64.0, 64.0, 70, "users")
    assert BRACKETED.load_s == 12.0


def test_the_response_passes_the_least_share_at_the_capacity() -> None:
    assert BRACKETED.response(6.0, 0.99) == pytest.approx(0.99)
    assert BRACKETED.response(3.0, 0.99) == pytest.approx(1.0, abs=1e-4)
    assert BRACKETED.response(1e6, 0.99) == pytest.approx(0.0, abs=1e-4)
    assert AT_LEAST.response(3.0, 0.99) is None


@pytest.mark.parametrize("capacity", [BRACKETED, AT_LEAST])
def test_a_capacity_survives_its_record(capacity: Capacity) -> None:
    assert Capacity.from_dict(json.loads(json.dumps(capacity.to_dict(), allow_nan=False))) == capacity


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 200.0}, "levels must ascend"),
        ({"lowest": 0.0}, "levels must ascend"),
        ({"precision": 0.0}, "precision must be between"),
        ({"most_s": 1.0}, "does not fit"),
    ],
)
def test_what_is_no_search_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Search(Unit.PER_S, **({"first": 1.0, "highest": 100.0} | arguments))


def test_the_lowest_level_has_a_default() -> None:
    assert Search(Unit.USERS, 4, 100).floor == 1
    assert Search(Unit.PER_S, 16, 100).floor == 1
