"""A study names the class of its machines, and refuses others unless told."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from optimize import hardware as signature
from optimize.study.info import ATTRIBUTE
from tests.conftest import Run


def about(out: Path) -> dict[str, object]:
    study = optuna.load_study(study_name="smoke", storage=f"sqlite:///{out}/optuna.db")
    found: dict[str, object] = study.user_attrs[ATTRIBUTE]
    return found


def test_another_class_is_refused_in_one_line_and_the_remedy_works(
    optimize: Run, simulated: list[str], tmp_path: Path
) -> None:
    assert optimize([*simulated, "study.trials=0"]).returncode == 0
    assert about(tmp_path / "out")["machine_class"] == signature.machine()
    refused = optimize([*simulated, "study.trials=0", "hardware.machine_class=other"])
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "figures of different hardware are not ranked together" in refused.stderr
    remedy = refused.stderr.rpartition("hardware.machine_class=")[2].strip()
    again = optimize([*simulated, "study.trials=1", f"hardware.machine_class={remedy}"])
    assert again.returncode == 0, again.stderr


def test_a_named_class_takes_in_whatever_carries_its_name(optimize: Run, simulated: list[str], tmp_path: Path) -> None:
    named = [*simulated, "hardware.machine_class=rack-7"]
    assert optimize([*named, "study.trials=0"]).returncode == 0
    assert about(tmp_path / "out")["machine_class"] == "rack-7"
    assert optimize([*named, "study.trials=1"]).returncode == 0


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("", [0, 1, 2]), ("1", [1]), ("2,0", [2, 0]), ("GPU-8932f937", [0, 1, 2]), ("1,7", [1]), (None, [0, 1, 2])],
)
def test_gpus_are_those_that_cuda_would_show(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: list[int]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert signature.visible_gpus(3) == gpus
