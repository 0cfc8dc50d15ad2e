"""Records, windows, estimates and gains."""

import json
import math

import pytest

from objectives import Direction, Estimate, Measurement, RequestRecord
from objectives.base import gain


def _record(due_s: float, done_s: float, **changes: object) -> RequestRecord:
    fields: dict[str, object] = {
        "prompt_id": 0, "due_s": due_s, "sent_s": due_s, "first_token_s": None, "done_s": done_s,
        "prompt_tokens": 5, "output_tokens": 5, "text": "x",
    }  # fmt: skip
    return RequestRecord(**{**fields, **changes})  # type: ignore[arg-type]


def test_estimate_survives_json() -> None:
    estimate = Estimate(1.5, 1.25, 2.0, 7, "s")
    assert Estimate.from_dict(json.loads(json.dumps(estimate.to_dict()))) == estimate


def test_clocks_start_when_the_request_was_due() -> None:
    record = _record(10.0, 14.0, sent_s=12.0, first_token_s=13.0)
    assert record.latency_s == 4.0
    assert record.ttft_s == 3.0


@pytest.mark.parametrize(
    ("first_token_s", "output_tokens", "tpot_s"),
    [(11.0, 5, 0.5), (11.0, 2, 2.0), (11.0, 1, None), (None, 5, None)],
)
def test_time_per_token_counts_the_tokens_after_the_first(
    first_token_s: float | None, output_tokens: int, tpot_s: float | None
) -> None:
    record = _record(10.0, 13.0, first_token_s=first_token_s, output_tokens=output_tokens)
    assert record.tpot_s == tpot_s


def test_window_takes_its_start_and_leaves_its_end() -> None:
    records = [_record(t, t) for t in (9.9, 10.0, 15.0, 20.0)]
    measured = Measurement(records, 10.0, 20.0, {})
    assert [r.due_s for r in measured.due_in_window] == [10.0, 15.0]
    assert [r.done_s for r in measured.completed_in_window] == [10.0, 15.0]
    assert measured.window_s == 10.0


def test_due_and_completed_are_different_populations() -> None:
    warmup, inside, late = _record(8, 11), _record(12, 13), _record(19, 25)
    failed = _record(14, 15, error="timeout")
    measured = Measurement([warmup, inside, failed, late], 10.0, 20.0, {})
    assert measured.due_in_window == [inside, failed, late]
    assert measured.answered == [inside, late]
    assert measured.completed_in_window == [warmup, inside]


def test_samples_are_those_within_the_window() -> None:
    series = {"kv_cache_use": [(9.0, 0.9), (10.0, 0.1), (15.0, 0.2), (21.0, 0.8)]}
    measured = Measurement([], 10.0, 20.0, {}, series)
    assert measured.samples("kv_cache_use") == [0.1, 0.2]
    assert measured.samples("never_sampled") == []


@pytest.mark.parametrize(
    ("direction", "value", "reference", "times_better"),
    [
        (Direction.MAXIMIZE, 30.0, 10.0, 3.0),
        (Direction.MAXIMIZE, 5.0, 10.0, 0.5),
        (Direction.MINIMIZE, 5.0, 10.0, 2.0),
        (Direction.MINIMIZE, 30.0, 10.0, 1 / 3),
    ],
)
def test_gain_above_one_is_better_in_either_direction(
    direction: Direction, value: float, reference: float, times_better: float
) -> None:
    assert gain(direction, value, reference) == pytest.approx(times_better)


@pytest.mark.parametrize(("value", "reference"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 2.0), (2.0, -1.0)])
def test_the_gain_of_a_figure_that_is_not_positive_is_not_a_number(value: float, reference: float) -> None:
    assert all(math.isnan(gain(direction, value, reference)) for direction in Direction)
