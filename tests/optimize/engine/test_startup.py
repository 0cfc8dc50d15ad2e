"""The phases of a start, from logs of vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from optimize.engine.flags import vllm_root
from optimize.engine.startup import (
    _LINES,
    CAPTURING,
    COMPILING,
    LOADING,
    OPENING,
    PROCESSES,
    WARMING,
    LogFollower,
    Startup,
    keyed,
    phase_of,
    phases_in,
)

LOGS = Path(__file__).with_name("logs")
CUDA = [  # as the format strings of the release stand in its source
    "Initializing a V1 LLM engine (v0.32.0) with config: model='m', enforce_eager={}, seed=0",
    "Starting to load model m...",
    "Model loading took 14.9 GiB memory and 8.1 seconds",
    "Using cache directory: /c/torch_compile_cache/0123/rank_0_0/backbone for vLLM's torch.compile",
    "Dynamo bytecode transform time: 6.5 s",
    "Directly load the compiled graph(s) for compile range (1, 2048) from the cache, took 1.2 s",
    "torch.compile took 21.3 s in total",
    "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  10%|█ | 5/51 [00:01<00:09]",
    "Graph capturing finished in 11 secs, took 0.62 GiB",
    "init engine (profile, create kv cache, warmup model) took 48.2 s",
    "Application startup complete.",
]


def phases(lines: Sequence[str]) -> list[str]:
    """The phases in their order."""
    startup = Startup(0.0)
    return [PROCESSES, *(startup.phase for now, line in enumerate(lines) if startup.read(line, float(now)))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("compiling.log", [PROCESSES, LOADING, COMPILING, WARMING, OPENING]),
        ("saving.log", [PROCESSES, LOADING, COMPILING, WARMING, OPENING]),
        ("eager.log", [PROCESSES, LOADING, OPENING]),
    ],
)
def test_the_phases_of_the_demo_model_on_a_processor(name: str, expected: list[str]) -> None:
    """The logs are vLLM 0.32's: one that compiles, one that also saves what it compiled, one without compilation."""
    log = (LOGS / name).read_text()
    assert phases(log.splitlines()) == expected
    assert phase_of(log) == OPENING and phase_of("") == PROCESSES


def test_a_gpu_compiles_and_captures_graphs() -> None:
    lines = [CUDA[0].format(False), *CUDA[1:]]
    assert phases(lines) == [PROCESSES, LOADING, COMPILING, WARMING, CAPTURING, OPENING]


def test_a_gpu_that_does_not_compile_only_warms_up() -> None:
    lines = [CUDA[0].format(True), *CUDA[1:3], *CUDA[-2:]]
    assert phases(lines) == [PROCESSES, LOADING, WARMING, OPENING]


def test_the_process_that_is_behind_does_not_turn_a_phase_back() -> None:
    lines = [CUDA[0].format(False), CUDA[1], CUDA[2], CUDA[1], CUDA[2], CUDA[6], CUDA[4]]
    assert phases(lines) == [PROCESSES, LOADING, COMPILING, WARMING]


def test_the_lines_stand_in_the_installed_release() -> None:
    """A release that words a line otherwise shows here, before a phase goes missing."""
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("compilation", "v1/engine", "v1/worker")
        for path in sorted((vllm_root() / folder).rglob("*.py"))
    ).replace('"\n', "")
    for pattern, _ in _LINES:
        texts = [part.partition(".*")[0].strip() for part in pattern.replace("\\", "").split("|")]
        assert any(text in source for text in texts), pattern


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_growing_log_is_followed_by_whole_lines(tmp_path: Path) -> None:
    log, clock, begun = tmp_path / "log", Clock(), list[str]()
    follower = LogFollower(log, begun.append, clock)
    follower.follow()  # there is no log yet
    clock.now = 2.0
    log.write_text("INFO Starting to lo")
    follower.follow()
    assert begun == []
    with log.open("a") as lines:
        lines.write("ad model m...\nWarming up mod")
    follower.follow()
    clock.now = 5.0
    with log.open("a") as lines:
        lines.write("el for the compilation...\r")
    follower.follow()
    assert begun == [LOADING, COMPILING]
    clock.now = 9.0
    with follower:
        pass
    assert follower.seconds == {PROCESSES: 2.0, LOADING: 3.0, COMPILING: 4.0}
    assert phases_in({"engine_start": 9.0, **keyed(follower.seconds)}) == follower.seconds
    assert keyed({LOADING: 3.0}) == {"engine_start.loading_weights": 3.0}


def test_a_log_that_is_begun_anew_is_read_anew(tmp_path: Path) -> None:
    """A start from scratch follows a forked one that failed."""
    log, clock, begun = tmp_path / "log", Clock(), list[str]()
    log.write_text("Starting to load model m...\nWarming up model for the compilation...\n")
    follower = LogFollower(log, begun.append, clock)
    follower.follow()
    clock.now = 3.0
    log.write_text("Starting to load model m...\n")
    with follower:
        pass
    assert begun == [LOADING, COMPILING, LOADING] and set(follower.seconds) == {PROCESSES, LOADING}


def test_a_log_without_phases_has_no_seconds(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a simulated engine\n")
    with LogFollower(tmp_path / "log", lambda _: None) as follower:
        pass
    assert follower.seconds == {}
