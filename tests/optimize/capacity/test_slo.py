"""Which requests meet an SLO."""

import math
from typing import Any

import numpy as np
import pytest

from objectives import RequestRecord
from optimize.capacity import Quantity, Requests, Slo, SloLimit


def answer(due_s: float, ttft_s: float, done_s: float, tokens: int = 11, error: str | None = None) -> RequestRecord:
    return RequestRecord(0, due_s, due_s, due_s + ttft_s, due_s + done_s, 8, tokens, "", error)


REQUESTS = Requests.of(
    [
        answer(2.0, 0.1, 5.1),
        answer(0.0, 0.1, 1.1),
        answer(1.0, 0.9, 1.0, tokens=1),
        answer(3.0, 0.1, 0.2, error="timeout"),
    ],
    [4.0],
)
TTFT, TPOT = SloLimit(Quantity.TTFT, 0.5, 0.95), SloLimit(Quantity.TPOT, 0.2)


def test_requests_stand_in_order_of_arrival_with_those_in_flight() -> None:
    assert REQUESTS.due_s.tolist() == [0, 1, 2, 3, 4]
    assert REQUESTS.in_flight.tolist() == [False] * 4 + [True]
    assert REQUESTS.tpot_s[:3] == pytest.approx([0.1, math.nan, 0.5], nan_ok=True)
    assert REQUESTS.between(1, 3).due_s.tolist() == [1, 2]
    assert len(Requests.of([])) == 0


def test_each_limit_has_its_own_share() -> None:
    slo = Slo((TTFT, TPOT), errors=0.05)
    assert slo.criteria() == {"ttft_s": 0.95, "tpot_s": 0.99, "errors": 0.95}
    within = {name: flags.tolist() for name, flags in slo.within(REQUESTS).items()}
    assert within == {
        "ttft_s": [True, False, True, False, False],
        "tpot_s": [True, True, False, False, False],  # a single token has none
        "errors": [True, True, True, False, True],
    }


def test_a_joint_share_asks_for_all_limits_at_once() -> None:
    slo = Slo((TTFT, TPOT), joint_share=0.9)
    assert slo.criteria() == {"joint": 0.9, "errors": 0.99}
    assert slo.within(REQUESTS)["joint"].tolist() == [True, False, False, False, False]


def test_an_answer_that_did_not_stream_is_not_within_a_limit_of_its_first_token() -> None:
    nan, no = np.array([math.nan]), np.array([False])
    requests = Requests(np.zeros(1), nan, nan, np.ones(1), no, no)
    assert not Slo((TTFT,)).within(requests)["ttft_s"][0]
    assert Slo((SloLimit(Quantity.LATENCY, 2.0),)).within(requests)["latency_s"][0]


def test_an_slo_survives_its_dictionary() -> None:
    for slo in (Slo((TTFT, TPOT)), Slo((TTFT,), joint_share=0.9, errors=0.2)):
        assert Slo.from_dict(slo.to_dict()) == slo


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limits": ()}, "needs a limit"),
        ({"limits": (TTFT, TTFT)}, "each quantity once"),
        ({"limits": (TTFT,), "joint_share": 1.0}, "between 0 and 1, not 1"),
        ({"limits": (TTFT,), "errors": 0.0}, "failed requests must be between 0 and 1, not 0"),
    ],
)
def test_what_is_no_slo_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Slo(**arguments)


def test_a_limit_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="above 0 s, not nan"):
        SloLimit(Quantity.TTFT, math.nan)
