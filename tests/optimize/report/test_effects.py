"""What the knobs do, in words: what a study's trials show, the largest first, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from optimize.report.charts.effects import label_of
from optimize.report.effects import Effect, effects_of, explanation, lines_of, read_effects, write_effects
from optimize.search.gp_sampler import LOG_SCALE_ATTR
from optimize.testing.made_up_study import DIRECTIONS, made_up_study

MEMORY = Effect(
    "memory_bytes", {"quantization": "int8"}, {"quantization": "fp16"}, 0.74, 0.72, 0.76, True, 8.6e6, "bytes"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    study, _ = made_up_study(tmp_path_factory.mktemp("made-up"), 30)
    study.set_user_attr(LOG_SCALE_ATTR, [name != "bleu" for name in DIRECTIONS])
    return study


@pytest.fixture(scope="module")
def effects(study: optuna.Study) -> list[Effect]:
    return effects_of(study)


def test_what_a_study_shows_is_told_largest_first(effects: list[Effect]) -> None:
    """Four beams take 4 ** 0.7 as long; the workers do nothing."""
    sizes = [e.size for e in effects]
    assert sizes == sorted(sizes, reverse=True) and all(e.is_shown for e in effects)
    beams = next(e for e in effects if e.figure == "qps" and e.new == {"beam_size": 4})
    assert beams.low < 4**-0.7 < beams.high
    assert not any("workers" in e.new for e in effects)
    lines = lines_of(effects)
    assert len(lines) <= 10 and any(line.startswith("beam_size 4 instead of 1: ") for line in lines)


def test_one_line_tells_all_that_a_change_does() -> None:
    faster = replace(MEMORY, figure="qps", value=1.5, low=1.37, high=1.64, unit="1/s")
    assert lines_of([faster, MEMORY]) == [
        "quantization int8 instead of fp16: QPS +50 % (+37 to +64 %), Memory −26.0 % (−28.0 to −24.0 %)"
    ]
    pair = replace(faster, new={"quantization": "int8", "workers": 2}, old={"quantization": "fp16", "workers": 1})
    assert lines_of([pair]) == [
        "quantization int8 instead of fp16 and workers 2 instead of 1: QPS +50 % (+37 to +64 %), beyond what each does "
        "alone"
    ]


def test_a_difference_has_its_sign_and_its_place_beside_the_default() -> None:
    better = replace(MEMORY, figure="bleu", value=1.2, low=0.4, high=2.0, is_ratio=False, reference=60.0, unit="")
    assert better.text == "BLEU +1.2 (+0.4 to +2.0)"
    assert (better.at("low"), better.at(), better.is_shown) == (60.4, 61.2, True)
    assert MEMORY.at() == pytest.approx(0.74 * 8.6e6)
    assert not replace(better, low=-0.1).is_shown and not replace(MEMORY, high=1.0).is_shown


def test_the_label_of_a_long_knob_keeps_its_value() -> None:
    assert label_of("quantization", "int8") == "quantization int8"
    assert label_of("env.VLLM_CPU_NUM_OF_RESERVED_CPU", "0") == "…M_OF_RESERVED_CPU 0"


def test_too_few_trials_show_nothing_and_say_so(tmp_path: Path) -> None:
    study, _ = made_up_study(tmp_path, 6)
    assert effects_of(study) == []
    assert "too few" in explanation([], 6) and "at least 8" in explanation([], 6)
    assert "No knob is shown" in explanation([], 30)


def test_stored_effects_are_read_back(effects: list[Effect], tmp_path: Path) -> None:
    paths = {p.name: p for p in write_effects(effects, 30, tmp_path)}
    assert read_effects(paths["effects.json"]) == effects
    text = paths["effects.md"].read_text(encoding="utf-8")
    assert text.count("\n- ") == len(lines_of(effects)) and "30 measured trials" in text
    assert json.loads(write_effects([], 3, tmp_path)[1].read_text()) == []
