"""Optuna's own contract of samplers, kept by each of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from optimize.search.gp_sampler import LogScaleGPSampler
from optimize.search.grid_sampler import grid
from optimize.search.live_engine import EngineReuseSampler

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
MakeSampler = Callable[[], BaseSampler]


class TestLogScaleGPSampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> MakeSampler:
        return lambda: LogScaleGPSampler(n_startup_trials=2, seed=0)


class TestEngineReuseSampler(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    """Around a sampler that samples independently: the cases of relative sampling are left out."""

    @pytest.fixture
    def sampler(self) -> MakeSampler:
        return lambda: EngineReuseSampler(RandomSampler(seed=0))


class TestExhaustiveSampler(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    """On a grid of `z`, which the cases of relative sampling do not ask for: they are left out."""

    @pytest.fixture
    def sampler(self) -> MakeSampler:
        return lambda: grid({"z": FloatDistribution(-1.0, 1.0)}, seed=0)
