import pytest

from optimize.serve.beam_limit import BeamLimit, accepted_beams, requested_beams


def limit(ceiling: int = 8, total: int = 100, clamp: bool = False, dynamic: bool = True) -> BeamLimit:
    return BeamLimit(ceiling, total, clamp, dynamic, kv_high=0.9, kv_low=0.6)


def beams(n: int) -> dict[str, object]:
    return {"use_beam_search": True, "n": n}


@pytest.mark.parametrize(("flags", "widest"), [({}, 10), ({"max_logprobs": None}, 10), ({"max_logprobs": 33}, 16)])
def test_an_engine_accepts_half_as_many_beams_as_log_probabilities(flags: dict[str, object], widest: int) -> None:
    assert accepted_beams(flags) == widest


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, 1), ({"n": 4}, 1), ({"use_beam_search": True}, 1), (beams(4), 4), (beams(-2), 1),
        ({"use_beam_search": True, "n": "4"}, 1),
    ],
)  # fmt: skip
def test_only_beam_search_asks_for_beams(body: dict[str, object], asked: int) -> None:
    assert requested_beams(body) == asked


def test_within_the_limit_a_request_passes_as_it_is() -> None:
    assert limit().judge(beams(8)).beams == 8
    assert limit().judge({"n": 50}).beams == 1


def test_beyond_it_a_request_is_refused_with_the_limit_in_words() -> None:
    verdict = limit().judge(beams(9))
    assert verdict.beams == 0 and "n=9" in verdict.reason and "8 beams allowed" in verdict.reason


def test_or_clamped() -> None:
    verdict = limit(clamp=True).judge(beams(9))
    assert (verdict.beams, verdict.requested) == (8, 9) and verdict.reason


@pytest.mark.parametrize(("kv_use", "waiting"), [(0.95, 0), (0.1, 3)])
def test_pressure_halves_the_limit_down_to_one(kv_use: float, waiting: float) -> None:
    found = limit()
    seen = []
    for _ in range(5):
        found.observe(kv_use, waiting)
        seen.append(found.limit)
    assert seen == [4, 2, 1, 1, 1]
    assert "under the present load (8 without" in found.judge(beams(2)).reason


def test_ease_lets_it_grow_by_one_up_to_the_ceiling_and_what_is_between_leaves_it() -> None:
    found = limit()
    found.observe(1.0, 0)
    found.observe(0.7, 0)
    assert found.limit == 4
    for _ in range(10):
        found.observe(0.5, 0)
    assert found.limit == 8


def test_a_fixed_limit_does_not_follow_pressure() -> None:
    found = limit(dynamic=False)
    found.observe(1.0, 5)
    assert found.limit == 8


def test_beams_in_flight_count_against_all_together_but_one_is_always_allowed() -> None:
    found = limit(total=10)
    found.enter(8)
    assert found.limit == 2
    found.enter(8)
    assert found.limit == 1
    found.enter(1)  # greedy requests are no beams
    found.leave(8)
    found.leave(8)
    assert found.limit == 8
