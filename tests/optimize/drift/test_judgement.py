"""What a study claims of its traffic, judged by what a server sees."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from objectives import Estimate
from optimize.config.compose import configuration
from optimize.drift.claims import Claim, claims_of
from optimize.drift.judgement import Verdict, judge
from optimize.drift.reference import Reference
from optimize.drift.report import to_markdown, tuning_command
from optimize.drift.session import edges_in
from optimize.engine.traffic import Traffic
from optimize.testing.made_up_traffic import TrafficModel, readings, synthetic_reference

KIND = TrafficModel()


def reference() -> Reference:
    return synthetic_reference(KIND, np.random.default_rng(1))


def judged(**factors: float) -> tuple[list[Verdict], list[Traffic]]:
    """Verdicts on an hour as in the study, then two hours of other traffic, all of it at noon."""
    return _judged(tuple(factors.items()))


@cache
def _judged(factors: tuple[tuple[str, float], ...]) -> tuple[list[Verdict], list[Traffic]]:
    rng = np.random.default_rng(2)
    seen = list(readings(KIND, 60, rng, cycle=lambda _: 0.95))
    seen += readings(KIND.times(**dict(factors)), 120, rng, begin=60, cycle=lambda _: 0.95)
    return judge(claims_of(reference(), edges_in(seen), 0.25), seen, 144_000), seen


def broken(verdicts: Sequence[Verdict]) -> set[str]:
    return {verdict.claim.name for verdict in verdicts if not verdict.holds}


def test_every_kind_of_figure_is_watched() -> None:
    verdicts, _ = judged()
    assert {v.claim.name for v in verdicts} == {
        "prompt_tokens", "output_tokens", "arrivals", "cached_prefix_share", "p50_latency_s", "p99_latency_s",
        "ttft_p50_s", "ttft_p99_s", "mean latency_s", "mean ttft_s", "mean tpot_s",
    }  # fmt: skip
    assert broken(verdicts) == set()


@pytest.mark.parametrize(
    ("factors", "names"),
    [
        ({"prompt_tokens": 2.0, "cached": 0.3}, {"prompt_tokens", "cached_prefix_share"}),
        (
            {"prompt_tokens": 0.4, "cached": 2.0, "tpot_s": 1.2, "rate_per_s": 2.0},
            {"prompt_tokens", "cached_prefix_share", "mean tpot_s", "arrivals"},
        ),
        ({"output_tokens": 1.6}, {"output_tokens"}),
        ({"latency_s": 3.0}, {"mean latency_s", "p50_latency_s", "p99_latency_s"}),
    ],
)
def test_a_change_refutes_what_it_changes_and_nothing_else(factors: dict[str, float], names: set[str]) -> None:
    verdicts, seen = judged(**factors)
    assert broken(verdicts) == names
    for verdict in verdicts:
        if verdict.alarm is not None:
            assert abs(verdict.alarm.since - seen[59].at) <= 10 * 60
            assert verdict.alarm.at - verdict.alarm.since <= 90 * 60


def test_a_night_refutes_nothing() -> None:
    verdicts, _ = judged(rate_per_s=0.1, latency_s=0.5, ttft_s=0.5, tpot_s=0.5)
    assert broken(verdicts) == set()


def test_a_capacity_is_exceeded_beyond_its_lower_end() -> None:
    measured = reference()
    capacity = replace(measured, estimates={"capacity_per_s": Estimate(2.0, 1.8, 2.2, 3, "1/s")}, requests=[], means={})
    (claim,) = claims_of(capacity, {}, 0.25)
    assert claim.name == "arrivals" and "more than 1.8 requests/s" in claim.watches[0].title


def test_a_study_without_stored_requests_still_has_its_quantiles() -> None:
    bare = replace(reference(), requests=[], means={})
    names = {claim.name for claim in claims_of(bare, {"latency_s": [0.5, 5.0, 10.0], "prompt_tokens": [10]}, 0.25)}
    assert names == {"arrivals", "cached_prefix_share", "p50_latency_s", "p99_latency_s"}


def test_the_intervals_of_a_single_measurement_have_the_margin() -> None:
    def bounds(rounds: int) -> set[str]:
        row = replace(reference(), rounds=rounds)
        every = claims_of(row, {"latency_s": [2.0, 5.0], "tpot_s": [0.1]}, 0.25)
        return {w.title for c in every if c.name in ("p50_latency_s", "mean tpot_s") for w in c.watches}

    assert bounds(3) == {"requests above 2 s", "minutes with a mean above 22.1 ms"}
    assert bounds(0) == {"requests above 5 s", "minutes with a mean above 27.6 ms"}


def test_what_a_server_does_not_count_is_no_claim() -> None:
    names = {claim.name for claim in claims_of(reference(), {"ttft_s": [0.1, 1.0]}, 0.25)}
    assert names == {"arrivals", "cached_prefix_share", "ttft_p50_s", "ttft_p99_s", "mean ttft_s"}


def test_the_report_says_what_is_broken_since_when_and_what_to_do() -> None:
    verdicts, seen = judged(prompt_tokens=0.4, cached=2.0, tpot_s=1.2, rate_per_s=2.0)
    text = to_markdown(reference(), verdicts, seen, 100)
    assert "| prompt_tokens |" in text and "no, since 1970-01-01 01:" in text and "| mean tpot_s |" in text
    assert "prompt_tokens no longer holds since 1970-01-01 01:" in text and "should be at most" in text
    assert (
        "python -m optimize +study=chat study.name=made-up-19700101 'search.warm_start=[made-up]' load=poisson" in text
    )
    assert "with prompts of the new traffic" in text and "false alarms: at most one in 100 days" in text


def test_where_only_speed_has_changed_the_machine_is_looked_at_first() -> None:
    verdicts, seen = judged(latency_s=3.0)
    text = to_markdown(reference(), verdicts, seen, 100)
    assert "the traffic is as it was: look at the machine" in text and "load=poisson" not in text


def test_few_readings_are_too_early_to_say() -> None:
    verdicts, seen = judged()
    assert "too early to say" in to_markdown(reference(), verdicts, seen[:5], 100)
    assert "no change: what the study confirmed still holds" in to_markdown(reference(), verdicts, seen, 100)


def test_the_command_repeats_the_studys_own_words_but_for_its_name_and_length() -> None:
    row = replace(reference(), words=["+study=chat", "study.trials=3", "study.name=mine", "model=smollm2"])
    assert tuning_command(row, set(), list(readings(KIND, 1, np.random.default_rng(0)))) == (
        "python -m optimize +study=chat model=smollm2 study.name=made-up-19700101 'search.warm_start=[made-up]'"
    )


def test_other_arrivals_take_the_place_of_the_studys() -> None:
    row = replace(reference(), words=["+study=chat", "load.arrivals.users=8"])
    command = tuning_command(row, {"arrivals"}, list(readings(KIND, 1, np.random.default_rng(0))))
    config = configuration(shlex.split(command)[3:])
    assert config.load.arrivals["_target_"].endswith("Poisson") and config.load.arrivals["rate_per_s"] > 0
    assert (config.study.name, config.search.warm_start) == ("made-up-19700101", ["made-up"])


def test_claims_know_whether_they_are_on_traffic() -> None:
    assert {claim.name: claim.on_traffic for claim in (_bare("arrivals"), _bare("mean ttft_s"))} == {
        "arrivals": True, "mean ttft_s": False,
    }  # fmt: skip


def _bare(name: str) -> Claim:
    return Claim(name, "", [], lambda _: "")
