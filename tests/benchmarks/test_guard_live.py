"""The brake of the guard's benchmark slows down the engines of the marked side, and no other."""

from __future__ import annotations

import os
import subprocess
import time

import psutil

from benchmarks.guard_live import MARK, marked


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
