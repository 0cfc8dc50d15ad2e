import pytest

from optimize.serve.beam_limit import BeamLimit, Verdict, accepted_beams


def limit(ceiling: int = 8, total: int = 100, clamp: bool = False, dynamic: bool = True) -> BeamLimit:
    return BeamLimit(ceiling, total, clamp, dynamic, kv_high=0.9, kv_low=0.6)


@pytest.mark.parametrize(("flags", "widest"), [({}, 10), ({"max_logprobs": None}, 10), ({"max_logprobs": 33}, 16)])
def test_an_engine_accepts_half_as_many_beams_as_log_probabilities(flags: dict[str, object], widest: int) -> None:
    assert accepted_beams(flags) == widest


@pytest.mark.parametrize(("flags", "widest"), [({}, 128), ({"max_num_seqs": 16}, 16)])
def test_an_engine_that_gives_any_number_of_log_probabilities_accepts_what_it_computes_together(
    flags: dict[str, object], widest: int
) -> None:
    for unlimited in (-1, "-1"):
        assert accepted_beams({"max_logprobs": unlimited, **flags}) == widest


def test_a_request_within_the_limit_is_admitted_unchanged() -> None:
    assert limit().judge(8) == Verdict(8, 8)
    assert limit().judge(1) == Verdict(1, 1)


def test_a_request_beyond_the_limit_is_refused_with_the_limit_in_words() -> None:
    verdict = limit().judge(9)
    assert verdict.width == 0 and "n=9" in verdict.reason and "8 beams allowed" in verdict.reason


def test_a_request_beyond_the_limit_is_clamped_on_demand() -> None:
    verdict = limit(clamp=True).judge(9)
    assert (verdict.width, verdict.beams) == (8, 8) and verdict.reason


def test_the_beams_of_all_prompts_of_a_request_count_together() -> None:
    assert limit(total=12).judge(3, prompts=4) == Verdict(3, 12)
    assert limit(total=12).judge(1, prompts=400) == Verdict(1, 1)  # no beam search
    refused = limit(total=12).judge(4, prompts=4)
    assert refused.width == 0 and "3 beams allowed for each of 4 prompts" in refused.reason
    clamped = limit(total=12, clamp=True)
    assert (clamped.judge(8, prompts=6).width, clamped.judge(8, prompts=6).beams) == (2, 12)
    assert (clamped.judge(8, prompts=50).width, clamped.judge(8, prompts=50).beams) == (1, 1)


@pytest.mark.parametrize(("kv_use", "waiting"), [(0.95, 0), (0.1, 3)])
def test_load_halves_the_limit_down_to_one(kv_use: float, waiting: float) -> None:
    beam_limit = limit()
    limits = []
    for _ in range(5):
        beam_limit.observe(kv_use, waiting)
        limits.append(beam_limit.limit)
    assert limits == [4, 2, 1, 1, 1]
    assert "under the present load (8 without" in beam_limit.judge(2).reason


def test_without_load_the_limit_grows_by_one_up_to_the_ceiling_and_moderate_load_keeps_it() -> None:
    beam_limit = limit()
    beam_limit.observe(1.0, 0)
    beam_limit.observe(0.7, 0)
    assert beam_limit.limit == 4
    for _ in range(10):
        beam_limit.observe(0.5, 0)
    assert beam_limit.limit == 8


def test_a_fixed_limit_ignores_load() -> None:
    beam_limit = limit(dynamic=False)
    beam_limit.observe(1.0, 5)
    assert beam_limit.limit == 8


def test_beams_in_flight_count_against_the_total_but_one_is_always_allowed() -> None:
    beam_limit = limit(total=10)
    beam_limit.enter(8)
    assert beam_limit.limit == 2
    beam_limit.enter(8)
    assert beam_limit.limit == 1
    beam_limit.enter(1)  # greedy requests are no beams
    beam_limit.leave(8)
    beam_limit.leave(8)
    assert beam_limit.limit == 8
