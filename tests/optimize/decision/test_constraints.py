"""Bounds on metrics as constraints of the search."""

import math

import pytest

from objectives import Estimate
from optimize.config.measuring import Bound
from optimize.decision.constraints import (
    RUNS,
    UNMEASURED,
    Limit,
    broken_without_figures,
    hopeless_after_s,
    make_limits,
    violations,
)
from optimize.errors import ConfigError

METRICS: dict[str, object] = {"p99_latency_s": 0, "bleu": 0, "qps": 0}


def _figures(**values: float) -> dict[str, Estimate]:
    return {name: Estimate(v, v, v, 1, "") for name, v in values.items()}


@pytest.mark.parametrize(
    ("limit", "figure", "baseline", "expected"),
    [
        (Limit("p99_latency_s", True, 2.0, False), 3.0, None, 0.5),
        (Limit("p99_latency_s", True, 2.0, False), 1.0, None, -0.5),
        (Limit("p99_latency_s", True, 2.0, False), 2.0, None, 0.0),
        (Limit("qps", False, 10.0, False), 5.0, None, 0.5),
        (Limit("qps", False, 10.0, False), 20.0, None, -1.0),
        (Limit("bleu", False, 0.95, True), 40.0, 50.0, (47.5 - 40) / 47.5),
        (Limit("bleu", False, 0.95, True), 48.0, 50.0, -0.5 / 47.5),
        (Limit("p99_latency_s", True, 1.5, True), 6.0, 2.0, 1.0),
        (Limit("error_rate", True, 0.0, False), 0.25, None, 0.25),
        (Limit("error_rate", True, 0.0, False), 0.0, None, 0.0),
    ],
)
def test_violation_is_the_share_beyond_the_limit(
    limit: Limit, figure: float, baseline: float | None, expected: float
) -> None:
    assert limit.violation(figure, baseline) == pytest.approx(expected)


def test_the_baseline_keeps_every_limit_relative_to_itself() -> None:
    assert Limit("bleu", False, 2.0, True).violation(10.0, None) == 0.0


def test_limits_are_named_as_people_write_them() -> None:
    limits = make_limits({"p99_latency_s": Bound(max=2.0), "bleu": Bound(min=20, min_ratio=0.95)}, METRICS)
    assert [limit.name for limit in limits] == ["bleu >= 20", "bleu >= 0.95 x baseline", "p99_latency_s <= 2"]


def test_order_of_limits_does_not_depend_on_the_order_of_bounds() -> None:
    bounds = {"qps": Bound(min=1.0), "bleu": Bound(min=2.0), "p99_latency_s": Bound(max=3.0, max_ratio=4.0)}
    assert make_limits(bounds, METRICS) == make_limits(dict(reversed(bounds.items())), METRICS)
    assert len({limit.name for limit in make_limits(bounds, METRICS)}) == 4


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"p99_latency": Bound(max=1)}, "did you mean 'p99_latency_s'"),
        ({"bleu": Bound()}, "sets no limit"),
        ({"bleu": Bound(min=30, max=20)}, "min/max are 30 and 20"),
        ({"bleu": Bound(min_ratio=1.1, max_ratio=0.9)}, "min_ratio/max_ratio are 1.1 and 0.9"),
        ({"qps": Bound(max=-1)}, "no metric is negative"),
    ],
)
def test_bad_bounds_are_refused_with_the_reason(bounds: dict[str, Bound], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_limits(bounds, METRICS)


def test_equal_ends_do_not_contradict_each_other() -> None:
    assert len(make_limits({"bleu": Bound(min=20, max=20)}, METRICS)) == 2


def test_every_trial_has_the_same_constraints_in_the_same_order() -> None:
    limits = make_limits({"p99_latency_s": Bound(max=2.0), "bleu": Bound(min_ratio=0.9)}, METRICS)
    measured = violations(limits, _figures(p99_latency_s=1.0, bleu=45.0), _figures(bleu=50.0))
    unmeasured = violations(limits, {}, _figures(bleu=50.0))
    assert list(measured) == list(unmeasured) == [RUNS, "bleu >= 0.9 x baseline", "p99_latency_s <= 2"]
    assert list(measured.values()) == pytest.approx([-1.0, 0.0, -0.5])
    assert list(unmeasured.values()) == [-1.0, UNMEASURED, UNMEASURED]


def test_no_limits_leave_the_question_whether_it_runs() -> None:
    assert violations([], _figures(qps=1.0), None) == {RUNS: -1.0}


def test_further_beyond_the_limit_is_a_larger_violation() -> None:
    upper, lower = Limit("x", True, 4.0, False), Limit("x", False, 4.0, False)
    steps = [0.5 * i for i in range(20)]
    rising = [upper.violation(x, None) for x in steps]
    falling = [lower.violation(x, None) for x in steps]
    assert rising == sorted(rising) and falling == sorted(falling, reverse=True)
    assert all(math.copysign(1, up) != math.copysign(1, down) for up, down in zip(rising, falling, strict=True) if up)


@pytest.mark.parametrize(
    ("bounds", "seconds"),
    [
        ({"p99_latency_s": Bound(max=2.0)}, 6.0),
        ({"p99_latency_s": Bound(max=2.0), "p50_latency_s": Bound(max=0.5)}, 1.5),
        ({"p99_latency_s": Bound(max_ratio=2.0)}, None),
        ({"p99_latency_s": Bound(min=2.0)}, None),
        ({"ttft_p99_s": Bound(max=0.1)}, None),
        ({}, None),
    ],
)
def test_hope_ends_at_three_times_the_lowest_limit_on_a_latency(
    bounds: dict[str, Bound], seconds: float | None
) -> None:
    assert hopeless_after_s(make_limits(bounds, dict.fromkeys(bounds, object()))) == seconds


def test_a_relative_bound_on_quality_looks_at_the_answers_of_both() -> None:
    limits = [Limit("bleu", False, 0.95, True)]
    read, baseline = _figures(bleu=60.0), _figures(bleu=70.0)  # 0.86, on other prompts than the baseline's
    ratios = {"bleu": Estimate(0.99, 0.96, 1.02, 40, "x")}
    assert violations(limits, read, baseline)[limits[0].name] > 0
    assert violations(limits, read, baseline, ratios)[limits[0].name] == pytest.approx((0.95 - 0.99) / 0.95)
    assert violations(limits, read, None, ratios)[limits[0].name] == 0.0  # the baseline itself


@pytest.mark.parametrize(("too_slow", "latency"), [(True, UNMEASURED), (False, 0.0)])
def test_a_trial_without_figures_breaks_only_the_constraints_it_was_seen_to_break(
    too_slow: bool, latency: float
) -> None:
    limits = make_limits(
        {"p99_latency_s": Bound(max=2.0), "qps": Bound(min=1.0), "bleu": Bound(min_ratio=0.95)}, METRICS
    )  # fmt: skip
    assert broken_without_figures(limits, too_slow) == {
        RUNS: UNMEASURED, "bleu >= 0.95 x baseline": 0.0, "p99_latency_s <= 2": latency, "qps >= 1": 0.0,
    }  # fmt: skip
