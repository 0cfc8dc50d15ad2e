"""Latency counts from when requests were due, failed ones included."""

import pytest

from objectives import Measurement, RequestRecord
from objectives.latency import LatencyQuantile, TimePerOutputToken, TimeToFirstAnswerToken, TimeToFirstToken


def _record(
    latency_s: float,
    first_s: float | None = None,
    tokens: int = 11,
    error: str | None = None,
    due_s: float = 10.0,
) -> RequestRecord:
    first = None if first_s is None else due_s + first_s
    return RequestRecord(0, due_s, due_s + 0.01, first, due_s + latency_s, 5, tokens, "x", error)


def _measured(records: list[RequestRecord]) -> Measurement:
    return Measurement(records, 10.0, 20.0, {})


def test_quantiles_of_known_latencies() -> None:
    measured = _measured([_record(i / 100) for i in range(1, 101)])
    for quantile, value in ((0.5, 0.505), (0.9, 0.901), (0.99, 0.9901)):
        estimate = LatencyQuantile(quantile).estimate(measured)
        assert estimate is not None
        assert estimate.value == pytest.approx(value)
        assert estimate.low <= estimate.value <= estimate.high
        assert (estimate.n, estimate.unit) == (100, "s")


def test_dropped_requests_do_not_make_a_configuration_look_fast() -> None:
    estimate = LatencyQuantile(0.99).estimate(_measured([_record(0.1)] * 50 + [_record(60.0, error="timeout")] * 50))
    assert estimate is not None
    assert estimate.value == pytest.approx(60.0)


def test_latency_leaves_out_what_was_due_outside_the_window() -> None:
    estimate = LatencyQuantile(0.99).estimate(
        _measured([_record(9.0, due_s=5.0), _record(0.2), _record(9.0, due_s=20.0)])
    )
    assert estimate is not None
    assert (estimate.value, estimate.n) == pytest.approx((0.2, 1))


def test_time_to_first_token_is_of_answered_requests_that_streamed() -> None:
    records = [_record(2.0, first_s) for first_s in (0.1, 0.2, 0.3)]
    records += [_record(2.0), _record(60.0, 50.0, error="timeout")]
    estimate = TimeToFirstToken(0.5).estimate(_measured(records))
    assert estimate is not None
    assert (estimate.value, estimate.n) == pytest.approx((0.2, 3))


def test_time_per_token_is_the_mean_over_requests() -> None:
    # 1 s for 10 tokens after the first, and 3 s for 10.
    estimate = TimePerOutputToken().estimate(_measured([_record(1.5, 0.5), _record(3.5, 0.5)]))
    assert estimate is not None
    assert (estimate.value, estimate.n) == pytest.approx((0.2, 2))


def test_beam_search_does_not_stream_so_token_times_do_not_apply() -> None:
    measured = _measured([_record(2.0), _record(3.0)])
    assert TimeToFirstToken().estimate(measured) is None
    assert TimePerOutputToken().estimate(measured) is None


def test_without_requests_there_is_no_latency() -> None:
    assert LatencyQuantile().estimate(_measured([])) is None


@pytest.mark.parametrize("objective", [LatencyQuantile, TimeToFirstToken])
@pytest.mark.parametrize("quantile", [0.0, 1.0, 99, -0.5])
def test_a_quantile_outside_zero_and_one_is_refused_at_once(
    objective: type[LatencyQuantile] | type[TimeToFirstToken], quantile: float
) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        objective(quantile)


def _thinking(answers_s: float | None) -> RequestRecord:
    first_answer_s = None if answers_s is None else 10.0 + answers_s
    return RequestRecord(0, 10.0, 10.0, 10.05, 14.0, 5, 9, "x", None, first_answer_s)


def test_the_first_token_is_of_any_kind_and_that_of_the_answer_has_a_figure_of_its_own() -> None:
    measured = _measured([_thinking(0.2), _thinking(0.4), _thinking(None)])
    first, answer = TimeToFirstToken().estimate(measured), TimeToFirstAnswerToken().estimate(measured)
    assert first is not None and answer is not None
    assert (first.value, first.n) == pytest.approx((0.05, 3))
    assert (answer.value, answer.n) == pytest.approx((0.3, 2))  # one answer ended within its thinking


@pytest.mark.parametrize("records", [[_thinking(0.05)], [_thinking(None)], [_record(1.0)], []])
def test_without_thinking_before_an_answer_there_is_no_such_figure(records: list[RequestRecord]) -> None:
    assert TimeToFirstAnswerToken().estimate(_measured(records)) is None


def test_an_answer_whose_tokens_nobody_counted_has_no_time_per_token() -> None:
    assert RequestRecord(0, 10.0, 10.0, 10.1, 11.0, None, None, "x").tpot_s is None
