"""Old names are answered with new ones."""

import importlib
import importlib.util

import pytest

from optimize.config.instantiate import build
from optimize.config.renames import MOVED
from optimize.errors import ConfigError


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_module_that_moved_is_answered_with_its_new_name(old: str, new: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"^{old} is now {new}$"):
        importlib.import_module(old)
    assert importlib.util.find_spec(new) is not None


def test_from_the_package_too() -> None:
    with pytest.raises(ImportError, match="optimize.lengths is now optimize.workload.lengths"):
        exec("from optimize import lengths")


def test_a_target_in_somebodys_yaml_is_answered_with_its_new_name() -> None:
    with pytest.raises(ConfigError, match="load.arrivals._target_.*optimize.lengths is now optimize.workload.lengths"):
        build({"_target_": "optimize.lengths.Fixed", "tokens": 3}, "load.arrivals")


def test_a_module_that_never_was_is_not_found_as_usual() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'optimize.nowhere'"):
        importlib.import_module("optimize.nowhere")
