"""Configurations are composed from words, and mistakes in the words are answered with the closest valid one."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.config.compose import configuration, default_study, explain
from optimize.errors import ConfigError


def _answer(word: str) -> str:
    """One line for a mistake, as the commands print it."""
    with pytest.raises(Exception) as mistake:  # noqa: B017, PT011  (of Hydra, of OmegaConf, or ours)
        configuration(["+study=chat", word])
    error = mistake.value
    return str(error) if isinstance(error, ConfigError) else explain(error)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("modle=demo", "unknown key 'modle' in the configuration; did you mean 'model'?"),
        ("executor=rey", "executor has no choice 'rey'; did you mean 'ray'?"),
        ("objectives=[qps,latency]", "objectives has no choice 'latency'; did you mean 'p99_latency_s'?"),
        ("study.cut_short=false", "study.cut_short no longer exists; windows are measured in full now: leave it out"),
        ("load.window_look_s=3", "load.window_look_s no longer exists; windows are measured in full now"),
        ("load.guard.repeat=1", "unknown key 'load.guard.repeat' in the configuration; did you mean 'repeats'?"),
        ("executor.engine=2", "unknown key 'executor.engine' in the configuration; did you mean 'engines'?"),
        ("tables.beams=[1,2]", "did you mean 'beam_size'?"),
        ("engine=remote", "engine.base_url is not set: give it, e.g. engine.base_url=..."),
        ("study.trials=many", "study.trials must be a whole number, got 'many'"),
        ("study.trials=-1", "study.trials must not be negative, got -1"),
    ],
)
def test_a_mistake_is_answered(word: str, answer: str) -> None:
    assert answer in _answer(word)


def test_overrides_are_typed() -> None:
    config = configuration(["+study=chat", "study.minutes=3", "load.precision={qps: 0.1}"])
    assert (config.study.minutes, config.load.precision) == (3.0, {"qps": 0.1, "p99_latency_s": 0.15})


def test_the_study_that_runs_because_none_was_chosen_is_named_with_the_others(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study/mine.yaml").write_text("# @package _global_\n")
    words = [f"--config-dir={tmp_path}", "study.trials=8"]
    line = default_study(configuration(words), words)
    assert line == (
        "no +study=NAME is given: this is study 'chat', 8 trials and the baseline; +study=NAME chooses one of abtest, "
        "bulk, capacity, chat, mine, smoke, and --help says more"
    )
    assert default_study(configuration(["+study=bulk"]), ["study.trials=8", "+study=bulk"]) == ""
