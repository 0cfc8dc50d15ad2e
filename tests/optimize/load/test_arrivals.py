"""Schedules of requests."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from optimize.errors import ConfigError
from optimize.load.arrivals import Arrivals, Burst, ClosedLoop, Constant, OpenLoop, Poisson, Ramp, Steps, Trace


def _due(rate_per_s: float, seed: int, n: int) -> list[float]:
    return list(itertools.islice(Poisson(rate_per_s).due_times_s(seed), n))


def test_a_seed_always_gives_the_same_schedule() -> None:
    assert _due(10.0, 1, 200) == _due(10.0, 1, 200)
    assert _due(10.0, 1, 200) != _due(10.0, 2, 200)


def test_due_times_increase_from_zero() -> None:
    times = _due(50.0, 3, 1000)
    assert times[0] > 0
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("rate_per_s", [0.5, 10.0, 400.0])
def test_gaps_are_exponential_with_the_mean_of_the_rate(rate_per_s: float) -> None:
    gaps = np.diff(_due(rate_per_s, 4, 4000))
    assert gaps.mean() == pytest.approx(1 / rate_per_s, rel=0.06)
    assert stats.kstest(gaps, stats.expon(scale=1 / rate_per_s).cdf).pvalue > 0.01


def test_counts_per_second_have_the_variance_of_a_poisson_process() -> None:
    counts, _ = np.histogram(_due(20.0, 5, 10_000), bins=np.arange(0, 400))
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.25)  # Poisson: variance equals mean


@pytest.mark.parametrize("rate_per_s", [0.0, -1.0])
def test_a_rate_must_be_positive(rate_per_s: float) -> None:
    with pytest.raises(ConfigError, match="rate_per_s must be positive"):
        Poisson(rate_per_s)


@pytest.mark.parametrize(("users", "think_s"), [(0, 0.0), (-3, 0.0), (4, -0.5)])
def test_a_closed_loop_needs_users_and_no_negative_pause(users: int, think_s: float) -> None:
    with pytest.raises(ConfigError, match=f"got users={users}, think_s={think_s}"):
        ClosedLoop(users, think_s)


def test_descriptions_tell_profiles_apart() -> None:
    profiles: list[Arrivals] = [ClosedLoop(8), ClosedLoop(9), ClosedLoop(8, 0.5), Poisson(8.0), Poisson(8.5)]
    assert [p.describe() for p in profiles] == [
        "closed loop, 8 users",
        "closed loop, 9 users",
        "closed loop, 8 users, 0.5 s think time",
        "Poisson arrivals, 8 requests/s",
        "Poisson arrivals, 8.5 requests/s",
    ]


def _first(profile: OpenLoop, n: int, seed: int = 0) -> list[float]:
    return list(itertools.islice(profile.due_times_s(seed), n))


def test_constant_arrivals_are_evenly_spaced() -> None:
    gaps = np.diff(_first(Constant(4.0), 50))
    assert gaps == pytest.approx([0.25] * 49)


@pytest.mark.parametrize("randomly", [True, False])
def test_steps_have_their_rates_and_the_last_goes_on(randomly: bool) -> None:
    profile = Steps([5.0, 50.0, 10.0], step_s=40.0, random=randomly)
    counts, _ = np.histogram(_first(profile, 6000), bins=[0, 40, 80, 120, 160])
    assert counts == pytest.approx([200, 2000, 400, 400], rel=0.15 if randomly else 0.01)
    assert profile.duration_s == 120.0


@pytest.mark.parametrize(("from_per_s", "to_per_s"), [(2.0, 20.0), (20.0, 2.0), (10.0, 10.0)])
def test_a_ramp_expects_the_area_under_its_rate(from_per_s: float, to_per_s: float) -> None:
    profile = Ramp(from_per_s, to_per_s, ramp_s=100.0, random=False)
    times = _first(profile, 3000)
    counts, _ = np.histogram(times, bins=[0, 25, 50, 75, 100, 150])
    middle = [from_per_s + (to_per_s - from_per_s) * part for part in (0.125, 0.375, 0.625, 0.875)]
    assert counts == pytest.approx([*(25 * rate for rate in middle), 50 * to_per_s], abs=1.5)


def _trace(folder: Path, *offsets: object) -> str:
    path = folder / "trace.jsonl"
    path.write_text("\n".join(json.dumps({"offset_s": offset}) for offset in offsets))
    return str(path)


def test_a_trace_is_replayed_from_its_first_arrival_over_and_over(tmp_path: Path) -> None:
    profile = Trace(_trace(tmp_path, 103.0, 100.0, 101.0), speed=2.0)
    assert profile.replay_s == pytest.approx(2.25)  # three gaps of half a second on average
    assert profile.duration_s == pytest.approx(7 * 2.25)  # a window holds twenty requests at least
    assert _first(profile, 5) == pytest.approx([0.0, 0.5, 1.5, 2.25, 2.75])
    assert profile.first_rate_per_s == pytest.approx(3 / 2.25)


def test_a_trace_names_its_content(tmp_path: Path) -> None:
    one = Trace(_trace(tmp_path, 0.0, 1.0)).describe()
    assert one != Trace(_trace(tmp_path, 0.0, 2.0)).describe()
    assert one.startswith("trace trace.jsonl ") and one.endswith(", 2 requests")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no requests"),
        ('{"offset_s": 1}\n{"offset_s": 1}', "at different times"),
        ('{"offset_s": 1}\n{"offset": 2}', "line 2"),
        ('{"offset_s": "soon"}', "line 1"),
        ('{"offset_s": NaN}', "line 1"),
        ("[3]", "line 1"),
        ('{"offset_s": 1, "output_tokens": 0}', "at least two arrivals"),
        ('{"offset_s": 1, "output_tokens": 3}\n{"offset_s": 2}', "output_tokens in some lines only"),
    ],
)
def test_a_broken_trace_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        Trace(str(path))


def test_a_missing_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Trace(str(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(0.0), "rate_per_s must be positive"),
        (lambda: Steps([1.0, -1.0]), "rates_per_s must be positive"),
        (lambda: Steps([]), "rates_per_s is empty"),
        (lambda: Ramp(ramp_s=0.0), "ramp_s must be positive"),
        (lambda: Trace("any", speed=0.0), "speed must be positive"),
    ],
)
def test_profiles_refuse_impossible_settings(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_only_profiles_of_changing_rate_have_a_length(tmp_path: Path) -> None:
    steady: list[Arrivals] = [ClosedLoop(), Poisson(), Constant(), Burst(3)]
    changing: list[Arrivals] = [Ramp(), Steps(), Trace(_trace(tmp_path, 0.0, 1.0))]
    assert [p.duration_s for p in steady] == [None] * 4
    assert all(p.duration_s is not None for p in changing)
    assert len({p.describe() for p in (*steady, *changing)}) == 7


def test_a_burst_is_all_at_once_and_then_nothing() -> None:
    assert _first(Burst(3), 10) == [0.0, 0.0, 0.0]


def test_a_trace_may_hold_lengths_and_keeps_them_with_their_requests(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [
        {"offset_s": 2.0, "prompt_tokens": 5, "output_tokens": 7},
        {"offset_s": 0, "prompt_tokens": 1, "output_tokens": 2},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert Trace(str(path)).lengths == [(1, 2), (5, 7)]
    assert Trace(str(path)).has_contents and not Trace(_trace(tmp_path, 0.0, 1.0)).has_contents
