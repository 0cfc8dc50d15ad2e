"""What a study's sampler is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler

from benchmarks.replay import ENOUGH
from benchmarks.tabular import GRID, OVERRIDES
from optimize.config.compose import configuration
from optimize.plan import make_plan
from optimize.study.lifecycle import open_study


class Told(RandomSampler):
    """Keeps what it was told."""

    def __init__(self, enough: Mapping[str, float], seed: int | None = None) -> None:
        super().__init__(seed)
        self.enough = dict(enough)


@pytest.mark.parametrize(
    ("load", "enough"),
    [
        ("load.arrivals.users=4", {"batch_size": GRID["batch_size"][ENOUGH["batch_size"]]}),
        ("load=abtest", {}),  # of independent users any number may wait at once
    ],
)
def test_the_sampler_knows_how_many_sequences_there_are_at_most(
    load: str, enough: dict[str, float], tmp_path: Path
) -> None:
    plan = make_plan(configuration([
        *OVERRIDES, "sampler=random", f"sampler._target_={__name__}.Told", "engine=simulated", load,
        f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache", "search_space.quantization=null",
    ]))  # fmt: skip
    sampler = open_study(plan).sampler
    assert isinstance(sampler, Told)
    assert sampler.enough == enough
