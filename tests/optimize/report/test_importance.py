"""Importance of knobs and pairs: evident if there is an effect, and not otherwise."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from optimize.report.importance import LEAST_TRIALS, Share, shares
from optimize.report.importance_tables import evident, read_importance, to_markdown, write_importance

LEVELS: dict[str, list[Any]] = {
    "quantization": ["fp16", "int8", "int4"],
    "batch_size": [1, 4, 16, 64],
    "workers": [1, 2],
}
WORTH = {"fp16": 1.0, "int8": 2.0, "int4": 3.0}


def _trials(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{knob: rng.choice(values) for knob, values in LEVELS.items()} for _ in range(n)]


def _found(n: int, noise: float = 0.05, together: bool = False) -> dict[tuple[str, ...], Share]:
    """Quantization alone, or only together with the workers, decides the figure."""
    rng, trials = random.Random(1), _trials(n)
    values = []
    for t in trials:
        sign = (1 if t["workers"] == 1 else -1) if together else 1
        values.append(sign * (WORTH[t["quantization"]] - 2) + rng.gauss(0, noise))
    return {s.knobs: s for s in shares(trials, {"qps": values}, LEVELS, {"qps": False})}


def test_a_knob_that_decides_alone_explains_nearly_everything() -> None:
    found = _found(60)
    assert found["quantization",].value > 0.85 and found["quantization",].evident
    assert found["quantization",].low <= found["quantization",].value <= found["quantization",].high
    assert not any(s.evident for knobs, s in found.items() if knobs != ("quantization",))


def test_an_interaction_is_evident_as_a_pair() -> None:
    found = _found(80, together=True)
    pair = found["quantization", "workers"]
    assert pair.evident and pair.value > 0.5
    assert "quantization and workers interact on qps" in pair.in_words()
    assert not found["quantization",].evident and not found["workers",].evident


def test_noise_is_no_evidence() -> None:
    rng, trials = random.Random(2), _trials(40)
    values = [rng.gauss(0, 1) for _ in trials]
    found = shares(trials, {"qps": values}, LEVELS, {"qps": False})
    assert sum(s.evident for s in found) <= 1
    assert all("Not enough evidence" in s.in_words() for s in found if not s.evident)


def test_too_few_trials_or_a_constant_figure_give_no_shares() -> None:
    few = _trials(LEAST_TRIALS - 1)
    assert shares(few, {"qps": [float(i) for i in range(len(few))]}, LEVELS, {"qps": False}) == []
    many = _trials(30)
    assert shares(many, {"qps": [5.0] * 30}, LEVELS, {"qps": True}) == []
    assert "Not enough evidence on any knob" in to_markdown([], 5)


def test_factors_that_multiply_do_not_interact_in_logarithms() -> None:
    """Two knobs that each multiply the figure interact in its values, and not in its logarithms."""
    trials = _trials(80)
    values = [10.0 ** WORTH[t["quantization"]] * t["batch_size"] for t in trials]
    log, raw = (
        next(
            s
            for s in shares(trials, {"qps": values}, LEVELS, {"qps": logs})
            if s.knobs == ("quantization", "batch_size")
        )
        for logs in (True, False)
    )
    assert log.value < 0.05 < 0.2 < raw.value


@pytest.mark.parametrize("knobs", [9, 12])
def test_a_large_space_is_thinned_out(knobs: int) -> None:
    rng = random.Random(3)
    levels = {f"k{i}": list(range(5)) for i in range(knobs)}
    trials = [{k: rng.choice(v) for k, v in levels.items()} for _ in range(60)]
    values = [float(t["k0"]) for t in trials]
    found = {s.knobs: s for s in shares(trials, {"y": values}, levels, {"y": False})}
    assert max(found.values(), key=lambda s: s.value).knobs == ("k0",)


def test_table_sentences_and_stored_shares_say_the_same(tmp_path: Path) -> None:
    results = list(_found(60).values())
    paths = {p.name: p for p in write_importance(results, 60, tmp_path)}
    assert set(paths) == {"importance.md", "importance.json"}
    assert read_importance(paths["importance.json"]) == results
    stored = json.loads(paths["importance.json"].read_text())
    assert [s["evident"] for s in stored] == [s.evident for s in results]
    assert evident(results).count("matters for") == sum(s.evident for s in results)
    lines = [line for line in paths["importance.md"].read_text().splitlines() if line.startswith("| qps")]
    assert [line.endswith("| yes |") for line in lines] == [s.evident for s in results]
