"""The private names of Optuna that this project uses, held against the pinned version."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from optimize.pareto import hypervolumes
from optimize.search import optuna_compat


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(study_name="one", storage=optuna.storages.InMemoryStorage())


def test_the_private_names_were_checked_with_this_version() -> None:
    assert version("optuna").startswith("5.0.")


def test_a_study_leads_to_its_storage(study: optuna.Study) -> None:
    storage = optuna_compat.storage_of(study)
    storage.set_study_system_attr(optuna_compat.study_id(study), "key", 1)
    assert storage.get_study_system_attrs(storage.get_study_id_from_name("one")) == {"key": 1}


def test_a_heartbeat_is_written_for_a_trial(tmp_path: Path) -> None:
    with pytest.warns(ExperimentalWarning):
        storage = RDBStorage(f"sqlite:///{tmp_path}/optuna.db", heartbeat_interval=60, grace_period=120)
    study = optuna.create_study(storage=storage)
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial = study.ask()
    optuna_compat.record_heartbeat(study, trial)
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM trial_heartbeats").scalar() == 1


def test_a_trial_is_ended_once(study: optuna.Study) -> None:
    study.ask()
    assert optuna_compat.end_trial(study, study.trials[0], TrialState.FAIL)
    assert study.trials[0].state is TrialState.FAIL
    with pytest.raises(UpdateFinishedTrialError):
        optuna_compat.end_trial(study, study.trials[0], TrialState.FAIL)


def test_a_distribution_says_what_it_contains() -> None:
    assert optuna_compat.distribution_contains(IntDistribution(1, 9, step=2), 3)
    assert not optuna_compat.distribution_contains(IntDistribution(1, 9, step=2), 4)
    assert optuna_compat.distribution_contains(CategoricalDistribution(["a", None]), None)


def test_a_parameter_is_suggested_by_its_distribution(study: optuna.Study) -> None:
    trial = study.ask()
    assert optuna_compat.suggest(trial, "n", IntDistribution(3, 3)) == 3
    assert trial.params == {"n": 3}


@pytest.mark.parametrize("objectives", [2, 3, 5])
def test_boxes_and_front_make_up_the_whole_space_below_the_reference(objectives: int) -> None:
    rng = np.random.default_rng(0)
    points = rng.dirichlet(np.ones(objectives), 6)  # all on a plane: none dominates another
    reference = np.ones(objectives)
    dominated = optuna_compat.hypervolume(points, reference)
    assert dominated == pytest.approx(hypervolumes(points, reference)[-1])
    lower, upper = optuna_compat.box_bounds(points, reference)
    open_volume = np.prod(upper - np.maximum(lower, 0.0), axis=1).sum()
    assert open_volume + dominated == pytest.approx(1.0)
