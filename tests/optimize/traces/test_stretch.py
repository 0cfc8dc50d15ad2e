"""A part of a trace, and fewer of its requests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from optimize.errors import ConfigError
from optimize.load.trace import Trace
from optimize.traces.requests import Floats, Requests
from optimize.traces.stretch import Part, Stretch
from optimize.traces.thinning import thinned


def _trace(folder: Path, offsets_s: list[float], part: Part = None, speed: float = 1.0, keep: float = 1.0) -> Trace:
    path = folder / "trace.jsonl"
    path.write_text(
        "\n".join(json.dumps({"offset_s": offset, "output_tokens": i + 1}) for i, offset in enumerate(offsets_s))
    )
    return Trace(str(path), part=part, speed=speed, keep=keep)


OFFSETS_S = [100.0, 130.0, 160.0, 170.0, 175.0, 180.0, 300.0]


@pytest.mark.parametrize(
    ("part", "answers", "first_s", "duration_s"),
    [
        ("busiest:25s", [3, 4, 5, 6], 0.0, 25.0),
        ("busiest:0.5min", [3, 4, 5, 6], 0.0, 30.0),
        ("first:1min", [1, 2], 0.0, 60.0),
        ([50.0, 80.0], [3, 4, 5], 10.0, 30.0),
        ([50, 81], [3, 4, 5, 6], 10.0, 31.0),
        ("first:2h", [1, 2, 3, 4, 5, 6, 7], 0.0, 200 * 7 / 6),
        ("all", [1, 2, 3, 4, 5, 6, 7], 0.0, 200 * 7 / 6),
    ],
)
def test_a_part_of_a_trace_is_replayed_at_its_own_times(
    part: Part, answers: list[int], first_s: float, duration_s: float, tmp_path: Path
) -> None:
    trace = _trace(tmp_path, OFFSETS_S, part)
    assert [output for _, output in trace.lengths] == answers
    assert next(trace.due_times_s(0)) == pytest.approx(first_s)
    assert trace.replay_s == pytest.approx(duration_s)
    assert _trace(tmp_path, OFFSETS_S, part, speed=2.0).replay_s == pytest.approx(duration_s / 2)


def test_a_part_belongs_to_what_the_trace_is_called(tmp_path: Path) -> None:
    names = {_trace(tmp_path, OFFSETS_S, part).describe() for part in (None, "busiest:25s", [50.0, 80.0])}
    assert len(names) == 3
    assert _trace(tmp_path, OFFSETS_S, "all").describe() == _trace(tmp_path, OFFSETS_S).describe()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "busy:10min",
            r"part='busy:10min' must be busiest:10min, first:90s \(units s, min, h\), \[from_s, to_s\] or all",
        ),
        ("busiest:10", "must be busiest:10min"),
        ("first:0s", "must be busiest:10min"),
        ([5.0], r"must be \[from_s, to_s\]"),
        ([8.0, 5.0], r"must be \[from_s, to_s\] with 0 <= from_s < to_s"),
        ([81.0, 90.0], "has 0 requests there, of 7 within 233 s: choose a longer part"),
    ],
)
def test_a_part_that_is_none_is_refused(part: Part, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        _trace(tmp_path, OFFSETS_S, part)


def _bursty(requests: int, sessions: int = 0) -> Stretch:
    """Gaps that vary three times as much as those of independent users, at a rate that doubles in the second half."""
    rng = np.random.default_rng(5)
    gaps_s = rng.gamma(0.1, 10.0, requests) / np.repeat([1.0, 2.0], requests // 2)
    offsets_s = np.cumsum(gaps_s)
    names = [str(row * sessions // requests) for row in range(requests)] if sessions else None
    return Stretch(Requests(offsets_s, sessions=names), 0.0, float(offsets_s[-1]) + 1.0)


def _burstiness(offsets_s: Floats) -> float:
    """Coefficient of variation of the gaps: 1 for independent users."""
    gaps = np.diff(offsets_s)
    return float(gaps.std() / gaps.mean())


def test_thinning_keeps_the_bursts_where_a_coin_for_each_request_loses_them() -> None:
    whole = _bursty(40_000)
    few = thinned(whole, 0.1)
    by_coin = whole.requests.offsets_s[np.random.default_rng(1).random(40_000) < 0.1]
    recorded, kept, coin = (_burstiness(x) for x in (whole.requests.offsets_s, few.requests.offsets_s, by_coin))
    assert len(few.requests) == pytest.approx(4_000, rel=0.001)
    assert kept == pytest.approx(recorded, rel=0.2) and coin < 0.5 * recorded


def test_thinning_keeps_the_course_of_the_rate_and_the_length() -> None:
    whole = _bursty(40_000)
    few = thinned(whole, 0.1)
    assert few.span_s == whole.span_s
    recorded, kept = (np.histogram(x.requests.offsets_s, bins=8, range=(0, whole.span_s))[0] for x in (whole, few))
    assert kept == pytest.approx(recorded / 10, rel=0.02, abs=60)


def test_thinning_keeps_sessions_whole() -> None:
    whole = _bursty(4_000, sessions=1_000)
    few = thinned(whole, 0.2)
    assert few.requests.sessions is not None
    kept = [name for name in few.requests.sessions if name is not None]
    counts = [kept.count(name) for name in set(kept)]
    assert len(counts) == 200
    assert sum(count == 4 for count in counts) >= 0.9 * len(counts)  # others end with the trace


def test_the_whole_is_kept_as_it_is() -> None:
    whole = _bursty(100)
    assert thinned(whole, 1.0) is whole


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.5])
def test_a_share_is_above_none_and_at_most_all(keep: float) -> None:
    with pytest.raises(ConfigError, match="must be a share above 0 and at most 1"):
        thinned(_bursty(100), keep)


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="keep=0.01 leaves 1 of 100 requests: keep more"):
        thinned(_bursty(100), 0.01)


def test_a_share_belongs_to_what_the_trace_is_called(tmp_path: Path) -> None:
    offsets_s = [float(second) for second in range(400)]
    few = _trace(tmp_path, offsets_s, keep=0.5)
    assert few.describe().endswith(", 200 requests, 0.5 of all")
    assert few.duration_s == pytest.approx(400.0)
