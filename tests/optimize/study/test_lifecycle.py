"""What a study's sampler learns of the study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler

from benchmarks.replay import SATURATION
from benchmarks.tabular import GRID, OVERRIDES
from optimize.config.compose import configuration
from optimize.plan import make_plan
from optimize.search.live_engine import EngineReuseSampler
from optimize.study.lifecycle import open_study


class Recording(RandomSampler):
    """Keeps its argument."""

    def __init__(self, saturation: Mapping[str, float], seed: int | None = None) -> None:
        super().__init__(seed)
        self.saturation = dict(saturation)


@pytest.mark.parametrize(
    ("load", "saturation"),
    [
        ("load.arrivals.users=4", {"batch_size": GRID["batch_size"][SATURATION["batch_size"]]}),
        ("load=abtest", {}),  # of independent users any number may wait at once
    ],
)
def test_the_sampler_knows_how_many_sequences_there_are_at_most(
    load: str, saturation: dict[str, float], tmp_path: Path
) -> None:
    plan = make_plan(configuration([
        *OVERRIDES, "sampler=random", f"sampler._target_={__name__}.Recording", "engine=simulated", load,
        f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache", "search_space.quantization=null",
    ]))  # fmt: skip
    outer = open_study(plan).sampler
    assert isinstance(outer, EngineReuseSampler) and isinstance(outer.sampler, Recording)
    assert outer.sampler.saturation == saturation
