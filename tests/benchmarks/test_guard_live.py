"""The benchmark of the guard slows down engines of the marked side alone, and keeps no place of the other one."""

from __future__ import annotations

import os
import subprocess
import time

import psutil

from benchmarks.guard_live import MARK, marked, without_place


def test_the_engines_of_a_marked_program_are_slowed_down() -> None:
    program = "bash -c 'exec -a VLLM::EngineCore sleep 60' & wait"
    environments = [{**os.environ, MARK: "1"}, dict(os.environ)]
    programs = [subprocess.Popen(["bash", "-c", program], env=env, start_new_session=True) for env in environments]
    try:
        while not all(_engines(each) for each in programs):
            time.sleep(0.01)
        assert [pid in marked() for each in programs for pid in _engines(each)] == [True, False]
    finally:
        for each in programs:
            os.killpg(each.pid, 9)
            each.wait()


def _engines(program: subprocess.Popen[bytes]) -> list[int]:
    children = psutil.Process(program.pid).children(recursive=True)
    return [child.pid for child in children if child.cmdline()[:1] == ["VLLM::EngineCore"]]


def test_a_result_does_not_say_where_the_other_environment_lies() -> None:
    command = "python -m optimize.guard guard.python=/envs/other/bin/python guard.minutes=8"
    assert (
        without_place(command, "/envs/other/bin/python")
        == "python -m optimize.guard guard.python=OTHER guard.minutes=8"
    )
    assert without_place(command, None) == command
