"""Rates count what was answered within the window; the error rate counts what was due in it."""

import pytest

from objectives import Measurement, RequestRecord
from objectives.cost import OutputTokenCost
from objectives.throughput import ErrorRate, Goodput, OutputTokenRate, RequestRate


def _record(due_s: float, done_s: float, tokens: int | None = 10, error: str | None = None) -> RequestRecord:
    return RequestRecord(0, due_s, due_s, None, done_s, 5, tokens, "x", error)


def _measured(records: list[RequestRecord]) -> Measurement:
    return Measurement(records, 10.0, 20.0, {})


STEADY = [_record(10 + i / 4, 10.1 + i / 4) for i in range(40)]


def test_steady_answers_have_a_rate_with_a_narrow_interval() -> None:
    estimate = RequestRate().estimate(_measured(STEADY))
    # 4 per second, evenly: next to nothing is left to be unsure of.
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((4.0, 4.0, 4.0), rel=2e-3)
    assert (estimate.n, estimate.unit) == (40, "1/s")


def test_rate_leaves_out_warmup_failures_and_what_came_too_late() -> None:
    others = [_record(1, 9.9), _record(12, 13, error="timeout"), _record(19, 20.0)]
    assert RequestRate().estimate(_measured([*STEADY, *others])).value == pytest.approx(4.0)


def test_rate_counts_answers_to_requests_of_the_warmup() -> None:
    assert RequestRate().estimate(_measured([*STEADY, _record(8, 12)])).value == pytest.approx(4.1)


def test_bursts_widen_the_interval() -> None:
    bursts = [_record(10, 10.5 + 2 * (i // 8)) for i in range(40)]
    estimate = RequestRate().estimate(_measured(bursts))
    assert estimate.value == pytest.approx(4.0)
    assert estimate.high - estimate.low > 2.0


def test_token_rate_weighs_answers_by_length() -> None:
    records = [_record(10 + i, 10.5 + i, tokens=3 if i % 2 else 7) for i in range(10)]
    estimate = OutputTokenRate().estimate(_measured(records))
    assert estimate is not None
    assert estimate.value == pytest.approx(5.0)
    assert (estimate.n, estimate.unit) == (10, "tokens/s")


def test_without_a_count_of_the_server_there_is_no_token_rate_and_no_price_of_tokens() -> None:
    uncounted = _measured([_record(11, 12), _record(12, 13, tokens=None)])
    assert OutputTokenRate().estimate(uncounted) is None
    assert OutputTokenCost(hourly_usd=1.0).estimate(uncounted) is None
    assert OutputTokenRate().estimate(_measured([_record(11, 12), _record(1, 2, tokens=None)])) is not None


def test_token_rate_leaves_out_failures() -> None:
    estimate = OutputTokenRate().estimate(_measured([_record(11, 12, tokens=None, error="server")]))
    assert estimate is not None and estimate.value == 0.0


def test_error_rate_is_the_share_of_requests_due_in_the_window() -> None:
    failed = [_record(15, 16, error=kind) for kind in ("timeout", "refused", "server")]
    outside = [_record(5, 6, error="timeout"), _record(25, 26, error="timeout")]
    estimate = ErrorRate().estimate(_measured([*STEADY[:17], *failed, *outside]))
    assert (estimate.value, estimate.n) == pytest.approx((0.15, 20))
    # Wilson's interval of 3 of 20.
    assert (estimate.low, estimate.high) == pytest.approx((0.0524, 0.3604), abs=5e-5)


def test_without_requests_the_error_rate_has_the_widest_interval() -> None:
    estimate = ErrorRate().estimate(_measured([]))
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.0, 0.0, 1.0, 0)


def _streamed(due_s: float, ttft_s: float, tpot_s: float, tokens: int = 11) -> RequestRecord:
    first = due_s + ttft_s
    return RequestRecord(0, due_s, due_s, first, first + tpot_s * (tokens - 1), 5, tokens, "x", None)


@pytest.mark.parametrize(
    ("limits", "good"),
    [
        (Goodput(latency_max_s=1.0), 20),
        (Goodput(ttft_max_s=0.25), 20),
        (Goodput(tpot_max_s=0.1), 20),
        (Goodput(latency_max_s=5.0, ttft_max_s=0.25, tpot_max_s=0.1), 10),
    ],
)
def test_goodput_counts_requests_within_every_limit(limits: Goodput, good: int) -> None:
    well = [_streamed(10 + i / 2, 0.2, 0.05) for i in range(10)]  # 0.7 s
    slow_to_begin = [_streamed(10 + i / 2, 0.4, 0.05) for i in range(10)]  # 0.9 s
    slow_to_go_on = [_streamed(10 + i / 2, 0.2, 0.2) for i in range(10)]  # 2.2 s
    estimate = limits.estimate(_measured([*well, *slow_to_begin, *slow_to_go_on]))
    assert estimate.value == pytest.approx(good / 10)
    assert (estimate.n, estimate.unit) == (good, "1/s")


def test_an_answer_that_does_not_stream_shows_its_first_token_at_its_end() -> None:
    whole = [_record(11, 12.5)]
    assert Goodput(ttft_max_s=1.0).estimate(_measured(whole)).n == 0
    assert Goodput(ttft_max_s=2.0, tpot_max_s=0.001).estimate(_measured(whole)).n == 1


@pytest.mark.parametrize("limits", [{}, {"latency_max_s": 0.0}, {"ttft_max_s": -1.0}])
def test_goodput_needs_positive_limits(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one of latency_max_s"):
        Goodput(**limits)
