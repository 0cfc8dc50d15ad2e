"""Processors for engines on GPUs, on machines that a test makes up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from optimize.executor.affinity import near_cpus, shares

LEFT, RIGHT = frozenset({0, 1, 2, 3, 8, 9, 10, 11}), frozenset({4, 5, 6, 7, 12, 13, 14, 15})
CORES = [(n, n + 8) for n in range(8)]
"""Two sockets of four cores of two threads each, numbered as Linux does: first threads of all cores come first."""


def test_engines_get_whole_cores_on_the_side_of_their_gpu() -> None:
    assert shares([RIGHT, LEFT], CORES) == [(4, 5, 6, 7, 12, 13, 14, 15), (0, 1, 2, 3, 8, 9, 10, 11)]
    first, second, third, fourth = shares([LEFT, LEFT, RIGHT, RIGHT], CORES)
    assert (first, second, third, fourth) == ((0, 1, 8, 9), (2, 3, 10, 11), (4, 5, 12, 13), (6, 7, 14, 15))


def test_without_sides_the_cores_are_shared_in_equal_blocks() -> None:
    whole = LEFT | RIGHT
    assert shares([whole] * 4, CORES) == [(0, 1, 8, 9), (2, 3, 10, 11), (4, 5, 12, 13), (6, 7, 14, 15)]
    assert shares([whole] * 3, CORES) == [(0, 1, 8, 9), (2, 3, 10, 11), (4, 5, 12, 13)]


def test_engines_over_both_sides_beside_one_of_a_single_side_share_no_core() -> None:
    both, left = shares([LEFT | RIGHT, LEFT], CORES)
    assert not set(both) & set(left) and set(left) <= LEFT and len(left) > 0


@pytest.mark.parametrize("near", [[LEFT] * 5, [LEFT, frozenset({99})]])
def test_where_an_engine_would_get_no_core_nobody_is_confined(near: list[frozenset[int]]) -> None:
    assert shares(near, CORES) == [()] * len(near)


class Nvml:
    """NVML of GPUs whose processors are given as masks of 64."""

    class NVMLError(Exception):
        """As pynvml's."""

    def __init__(self, *masks: int) -> None:
        self._masks = masks

    def nvmlDeviceGetCpuAffinity(self, _: object, words: int) -> list[int]:  # noqa: N802
        if not self._masks:
            raise self.NVMLError("not supported")
        return list(self._masks[:words])


def test_the_driver_tells_the_processors_near_a_gpu() -> None:
    allowed = frozenset(range(130))
    nvml: Any = Nvml(0b1100, 0b1, 0b10)
    assert near_cpus(nvml, SimpleNamespace(), allowed) == {2, 3, 64, 129}
    assert near_cpus(nvml, SimpleNamespace(), frozenset({0, 1, 2})) == {2}


@pytest.mark.parametrize("nvml", [Nvml(), Nvml(0), Nvml(1 << 40)])
def test_a_driver_that_tells_nothing_of_these_processors_leaves_all(nvml: Any) -> None:
    assert near_cpus(nvml, SimpleNamespace(), frozenset({0, 1})) == {0, 1}
