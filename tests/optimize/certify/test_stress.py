from typing import Any

import pytest

from objectives import RequestRecord
from optimize.certify.stress import bounded_ramp, breaking_per_s, per_bin, summary
from optimize.load.profiles import Ramp


def request(due_s: float, latency_s: float = 0.1, error: str | None = None) -> RequestRecord:
    return RequestRecord(0, due_s, due_s, None, due_s + latency_s, 1, 1, "", error)


def test_answers_keep_up_with_a_sustainable_rate() -> None:
    figures = summary([request(k / 10) for k in range(100)], 2.0, 8.0, 10.0)
    assert figures["arrived_per_s"] == pytest.approx(10.0) and figures["answered_per_s"] == pytest.approx(
        10.0, rel=0.05
    )
    assert figures["p99_s"] == pytest.approx(0.1) and figures["errors"] == {} and figures["kept"]


def test_answers_do_not_keep_up_while_requests_pile_up() -> None:
    figures = summary([request(k / 10, latency_s=k / 10) for k in range(100)], 2.0, 8.0, 10.0)
    assert figures["answered_per_s"] < 6 and not figures["kept"]


def test_errors_are_counted_by_class_and_do_not_keep_up() -> None:
    figures = summary([*[request(k / 10) for k in range(100)], request(3.0, 0.2, "timeout")], 2.0, 8.0, 10.0)
    assert figures["errors"] == {"timeout": 1} and not figures["kept"]


@pytest.mark.parametrize("start_s", [0.3, 0.8, 2.0, 14.1])
def test_a_ramp_has_a_bin_for_each_of_its_seconds_whenever_it_begins(start_s: float) -> None:
    bins = per_bin([], start_s, start_s + 2.0, Ramp(10, 30, 2.0), [], 0.0)
    assert [row["second"] for row in bins] == [0, 1]
    assert len(per_bin([], start_s, start_s + 1.9, Ramp(10, 30, 1.9), [], 0.0)) == 1  # a part would show a lower rate


def test_a_ramp_within_its_bound_is_unchanged() -> None:
    ramp, hold_s = bounded_ramp(10, 1000, 10, 2, 8000)
    assert (ramp.from_per_s, ramp.to_per_s, ramp.ramp_s, hold_s) == (10, 1000, 10, 2)


def test_the_hold_is_cut_before_the_ramp() -> None:
    ramp, hold_s = bounded_ramp(10, 1000, 10, 5, 6000)
    assert ramp.to_per_s == 1000 and hold_s == pytest.approx(0.95)
    ramp, hold_s = bounded_ramp(10, 1000, 10, 5, 2000)
    assert ramp.to_per_s == pytest.approx(390) and hold_s == 0


def bins(*p99: float) -> list[dict[str, Any]]:
    return [{"offered_per_s": 100.0 * (k + 1), "p99_s": value, "errors": {}} for k, value in enumerate(p99)]


def test_the_breaking_rate_is_where_p99_leaves_the_normal_range_for_good() -> None:
    assert breaking_per_s(bins(0.1, 0.5, 0.1, 0.6, 2.0), 0.2) == 400
    assert breaking_per_s(bins(0.1, 0.5, 0.1), 0.2) is None
    assert breaking_per_s(bins(1.0, 1.0), 0.2) == 100
