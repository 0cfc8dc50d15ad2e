"""What a study's sampler learns of the study, and what becomes of a study that starts anew."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from benchmarks.live_space import SATURATION
from benchmarks.tabular import GRID, OVERRIDES
from optimize.config.compose import configuration
from optimize.errors import ConfigError
from optimize.ledger import Ledger
from optimize.plan import Plan, make_plan
from optimize.search.live_engine import EngineReuseSampler
from optimize.study.info import info_of
from optimize.study.lifecycle import open_study, stored_studies
from tests.conftest import ROOT
from tests.storages import storage_at, study_at


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


def planned(tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(configuration([
        *OVERRIDES, "engine=simulated", f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache",
        "search_space.quantization=null", *overrides,
    ]))  # fmt: skip


def with_files(plan: Plan) -> Plan:
    """A study with one trial's record and a lock."""
    open_study(plan)
    folder = Ledger(plan.folder).trial_folder(0)
    (folder / "trial.json").write_text("{}", encoding="utf-8")
    (plan.folder / "lock").touch()
    return plan


def names_in(plan: Plan) -> list[str]:
    return sorted(path.name for path in (Path(plan.config.output_dir) / "studies").iterdir())


def fresh(plan: Plan) -> Plan:
    settings = dataclasses.replace(plan.config.study, fresh=True)
    return dataclasses.replace(plan, config=dataclasses.replace(plan.config, study=settings))


def killed_while_created(plan: Plan, attributes: int) -> None:
    """Run a command that is killed once it has created the study and written so many of its attributes."""
    lines = (
        "import os, signal",
        "from optuna import Study",
        "from pathlib import Path",
        "from optimize.study.lifecycle import open_study",
        "from tests.optimize.study.test_lifecycle import planned",
        f"left = [{attributes}]",
        "def counted(write):",
        "    def writing(*arguments):",
        "        left[0] -= 1",
        "        os.kill(os.getpid(), signal.SIGKILL) if left[0] < 0 else write(*arguments)",
        "    return writing",
        "Study.set_user_attr, Study.set_metric_names = map(counted, (Study.set_user_attr, Study.set_metric_names))",
        f"open_study(planned(Path({str(Path(plan.config.output_dir).parent)!r})))",
    )
    assert subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT).returncode == -signal.SIGKILL


@pytest.mark.parametrize("attributes", [0, 2])
def test_a_study_whose_command_was_killed_while_it_created_it_is_adopted(attributes: int, tmp_path: Path) -> None:
    plan = planned(tmp_path)
    killed_while_created(plan, attributes)
    study = open_study(plan)
    assert study.metric_names == list(plan.objectives)
    assert study.user_attrs["fingerprint"] == plan.fingerprint() and info_of(study).scenario == plan.config.scenario
    assert [stored.study_name for stored in stored_studies(plan.config.tracking.storage)] == [study.study_name]


def test_an_empty_study_with_other_objectives_is_refused_with_the_remedy_which_works(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    name, storage = plan.config.study.name, storage_at(plan.config.tracking.storage)
    optuna.create_study(study_name=name, storage=storage, directions=["minimize"] * 3)
    with pytest.raises(ConfigError, match=r"has other objectives and no trials: .* start anew with study\.fresh=true"):
        open_study(plan)
    assert open_study(fresh(plan)).metric_names == list(plan.objectives)


def test_a_study_of_another_program_is_left_alone(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    storage = storage_at(plan.config.tracking.storage)
    directions = [StudyDirection[objective.direction.name] for objective in plan.objectives.values()]
    study = optuna.create_study(study_name=plan.config.study.name, storage=storage, directions=directions)
    study.set_user_attr("owner", "somebody else")
    with pytest.raises(ConfigError, match="was not made by this project: choose another study.name"):
        open_study(plan)
    assert study_at(plan.config.tracking.storage, study.study_name).user_attrs == {"owner": "somebody else"}


def test_a_study_that_starts_anew_keeps_the_files_of_the_old_one(tmp_path: Path) -> None:
    plan = with_files(planned(tmp_path))
    open_study(fresh(plan))
    name, kept = names_in(plan)
    assert kept.startswith(f"{name}-until-")
    assert [path.name for path in plan.folder.iterdir()] == ["lock"]
    assert (plan.folder.with_name(kept) / "trials/0000/trial.json").is_file()


def test_the_files_of_a_study_that_the_storage_has_lost_are_kept_too(tmp_path: Path) -> None:
    plan = with_files(planned(tmp_path))
    optuna.delete_study(study_name=plan.config.study.name, storage=plan.config.tracking.storage)
    open_study(fresh(plan))
    assert len(names_in(plan)) == 2 and not Ledger(plan.folder).has_trials()


def test_setting_a_study_aside_can_be_repeated_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = with_files(planned(tmp_path))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(optuna, "delete_study", killed)
        open_study(fresh(plan))
    assert plan.config.study.name in optuna.get_all_study_names(storage_at(plan.config.tracking.storage))
    monkeypatch.setattr("optimize.study.lifecycle._kept_name", lambda name: f"{name}-until-later")
    open_study(fresh(plan))
    assert not Ledger(plan.folder).has_trials()


def test_a_kill_while_a_study_is_set_aside_leaves_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = with_files(planned(tmp_path))
    open_study(plan).add_trial(optuna.trial.create_trial(state=TrialState.FAIL))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(optuna.Study, "add_trials", killed)
        open_study(fresh(plan))
    name, storage = plan.config.study.name, plan.config.tracking.storage
    assert len(optuna.get_all_study_names(storage_at(storage))) == 2
    assert [study.study_name for study in stored_studies(storage)] == [name]
    monkeypatch.setattr("optimize.study.lifecycle._kept_name", lambda name: f"{name}-until-later")
    open_study(fresh(plan))
    kept = study_at(storage, f"{name}-until-later")
    assert kept.metric_names == list(plan.objectives) and len(kept.trials) == 1
    assert kept.user_attrs["fingerprint"] == plan.fingerprint() and kept.user_attrs["archived"] is True


def test_the_move_itself_refuses_a_folder_that_is_not_the_studys(tmp_path: Path) -> None:
    """The name is refused before (`study.name=..`); here the check is asked that stands before the move."""
    plan = with_files(planned(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    for folder in (Path(plan.config.output_dir) / "studies/..", tmp_path):
        with pytest.raises(ConfigError, match=r"study\.fresh=true sets the files in .* aside, which leads to"):
            open_study(dataclasses.replace(fresh(plan), folder=folder))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_whose_folder_is_a_link_is_not_moved(tmp_path: Path) -> None:
    plan = with_files(planned(tmp_path))
    plan.folder.rename(tmp_path / "disk")
    plan.folder.symlink_to(tmp_path / "disk")
    with pytest.raises(ConfigError, match="which leads to .*/disk: choose another study.name, or move them yourself"):
        open_study(fresh(plan))
    assert (tmp_path / "disk/trials/0000/trial.json").is_file()


def test_a_stored_study_whose_name_leads_elsewhere_is_left_out(tmp_path: Path) -> None:
    plan = with_files(planned(tmp_path))
    storage = plan.config.tracking.storage
    optuna.copy_study(
        from_study_name=plan.config.study.name, from_storage=storage, to_storage=storage, to_study_name=".."
    )
    assert [study.study_name for study in stored_studies(storage)] == [plan.config.study.name]
