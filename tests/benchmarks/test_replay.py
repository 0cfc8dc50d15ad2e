"""Replays against a made-up table: what they count, and how they are judged."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow.parquet as pq
import pytest
from optuna.samplers import RandomSampler

from benchmarks.ground_truth import CHAT_P99_MAX_S, Row, Table, key_of, pooled
from benchmarks.replay import COLD_START_S, Policy, Step, candidates, replay
from benchmarks.scoring import best_points, regret, repeated_failures, shares, stop, trials_to
from benchmarks.tabular import BASELINE, DATA, GRID

START_S, TRIAL_S = 2.0, 8.0
WEIGHTS = {"qps": 1.0, "p99_latency_s": 1.0}
WARM = Policy(lambda seed: RandomSampler(seed=seed), trials=40)


def _row(point: dict[str, Any], repeat: int) -> Row:
    """The batch size brings rate, beams cost latency and bring BLEU; four beams are too slow to be measured."""
    beam, size = point["beam_size"], point["batch_size"]
    p99_s = 1.5 * beam * (1.1 if repeat else 1.0)
    values = {
        "qps": 10.0 + size / 8, "p99_latency_s": p99_s, "memory_bytes": 1e8 + size * 1e5, "bleu": 70.0 + beam,
        "error_rate": 0.0,
    }  # fmt: skip
    measured = beam < 4
    row: dict[str, Any] = {**point, "repeat": repeat, "new_engine": True, "disturbed": "", "reason": ""}
    row |= {"state": "completed" if measured else "infeasible"}
    row |= {"bleu.gain": beam - 1.0, "bleu.gain.n": 50} if measured else {}
    row |= {"seconds.engine_start": START_S, "seconds.total": START_S + TRIAL_S, "seconds.window": 6.0}
    for name, value in values.items():
        ends = (value * 0.9, value * 1.1)
        row |= {name: value, f"{name}.low": ends[0], f"{name}.high": ends[1], f"{name}.n": 50} if measured else {}
    return row


POINTS = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
KNOWN = Table([_row(point, repeat) for repeat in (0, 1) for point in POINTS])


def _step(point: dict[str, Any], repeat: int = 0) -> Step:
    return Step(key_of(point), _row(point, repeat), 0.0, 0.0, False)


def _at(**knobs: Any) -> dict[str, Any]:
    return {**BASELINE, **knobs}


def test_all_points_make_up_the_whole_hypervolume_and_infeasible_ones_none() -> None:
    assert KNOWN.hypervolume(KNOWN.rows) == pytest.approx(KNOWN.best)
    too_slow = {key_of(_at(beam_size=beam)) for beam in (3, 4)}
    assert not too_slow & KNOWN.feasible
    assert KNOWN.hypervolume(too_slow) == 0.0
    assert 0 < KNOWN.hypervolume([key_of(BASELINE)]) < KNOWN.best


def test_quality_is_pooled_over_trials_with_equal_answers() -> None:
    same, few = {"bleu.gain": 0.0, "bleu.gain.n": 10}, {"bleu": 60.0, "bleu.n": 5, "bleu.gain.n": 5}
    rows = [
        {**BASELINE, "bleu": 70.0, "bleu.n": 10, **same}, {**_at(batch_size=4), "bleu": 76.0, "bleu.n": 20, **same},
        *({**_at(beam_size=2), **few, "bleu.gain": gain} for gain in (1.0, 3.0)),
    ]  # fmt: skip
    assert pooled(rows) == {("fp16", 1): pytest.approx(74.0), ("fp16", 2): pytest.approx(76.0)}


def test_a_replay_begins_with_the_defaults_and_pays_for_engines_that_change() -> None:
    steps = replay(WARM, 0, KNOWN, CHAT_P99_MAX_S)
    assert len(steps) == 40 and steps[0].key == key_of(BASELINE)
    assert steps[0].spent_s == pytest.approx(START_S + TRIAL_S + steps[0].thinking_s)
    for before, step in itertools.pairwise(steps):
        spent_s = step.spent_s - before.spent_s - step.thinking_s
        stays = before.row["state"] == "completed" and before.key[:-1] == step.key[:-1]
        assert spent_s == pytest.approx(0.0 if step.from_memory else TRIAL_S if stays else START_S + TRIAL_S)
    assert any(step.from_memory for step in steps) == (repeated_failures(steps) > 0)


def test_the_peer_starts_cold_each_time_and_remembers_no_failure() -> None:
    cold = Policy(WARM.sampler, constraints=False, pooled=False, warm=False, trials=12)
    steps = replay(cold, 0, KNOWN, CHAT_P99_MAX_S)
    thinking_s = sum(s.thinking_s for s in steps)
    assert steps[-1].spent_s == pytest.approx(12 * (COLD_START_S + TRIAL_S) + thinking_s)


def test_a_refusal_of_vllm_costs_a_trial_only_where_the_search_does_not_know_it() -> None:
    refused = {"state": "infeasible", "reason": "refused: no kernel"}
    rows = [{**_row(p, 0), **(refused if p["quantization"] == "int4" else {})} for p in POINTS]
    told, not_told = (
        replay(Policy(WARM.sampler, constraints=told), 0, Table(rows), CHAT_P99_MAX_S, repeats=(0,), trials=40)
        for told in (True, False)
    )
    assert len(told) == len(not_told) == 40
    assert not any(s.key[0] == "int4" for s in told) and any(s.key[0] == "int4" for s in not_told)


def test_only_the_asked_repeats_answer_and_first_points_come_first() -> None:
    steps = replay(WARM, 3, KNOWN, CHAT_P99_MAX_S, repeats=(1,), first=[_at(batch_size=16)], trials=6)
    assert [s.row["repeat"] for s in steps] == [1] * 6
    assert steps[1].key == key_of(_at(batch_size=16))


def test_shares_rise_to_one_and_say_when() -> None:
    found = shares([_step(p) for p in (BASELINE, *POINTS)], KNOWN)
    assert found == sorted(found) and found[-1] == pytest.approx(1.0)
    assert trials_to(0.9, [0.2, 0.91, 0.95]) == 2
    assert trials_to(0.99, [0.2, 0.91, 0.95]) is None


def test_a_second_failure_of_a_point_is_a_repeated_failure() -> None:
    failing, working = _at(beam_size=4), _at(batch_size=4)
    assert repeated_failures([_step(p) for p in (failing, working, failing, working, failing)]) == 2


def test_regret_is_the_shortfall_of_the_best_tried_point_from_the_best_of_all() -> None:
    assert regret([p for p in KNOWN.feasible], KNOWN, WEIGHTS) == pytest.approx(0.0)
    some = regret([key_of(_at(batch_size=1))], KNOWN, WEIGHTS)
    assert some == pytest.approx(1 - ((10 + 1 / 8) / (10 + 256 / 8)) ** 0.5)
    assert regret([key_of(_at(beam_size=4))], KNOWN, WEIGHTS) == 1.0


def test_a_study_that_saw_everything_ends_without_regret() -> None:
    steps = [_step(p) for p in (BASELINE, *(p for p in POINTS if p["beam_size"] < 3))]
    ended = stop(steps, KNOWN, CHAT_P99_MAX_S, WEIGHTS, since=len(steps))
    assert ended is not None and ended.regret < 0.05


def test_a_later_study_starts_from_the_best_of_the_front() -> None:
    steps = [_step(p) for p in (BASELINE, _at(batch_size=1), _at(batch_size=64), _at(beam_size=3))]
    assert [c.feasible for c in candidates(steps, CHAT_P99_MAX_S)] == [True, True, True, False]
    assert best_points(steps, CHAT_P99_MAX_S, {"memory_bytes": 1.0}, 1) == [_at(batch_size=1)]


@pytest.mark.skipif(not DATA.is_file(), reason="the live table is not measured yet: python -m benchmarks.tabular")
def test_the_kept_table_is_whole() -> None:
    rows = pq.read_table(DATA).to_pylist()
    assert sorted((key_of(r), r["repeat"]) for r in rows) == sorted((key_of(p), i) for p in POINTS for i in (0, 1))
    assert all(r["signature"] and r["started_at"] > 0 for r in rows)
    assert {r["state"] for r in rows} == {"completed", "infeasible"}
    assert Table(rows).best > 0
