"""What is changed in vLLM so that its engines can be forked, on modules that stand for vLLM's."""

from __future__ import annotations

import ctypes
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from optimize.engine.vllm_adaptation import (
    Unsupported,
    _ask_the_driver,
    _inspect_models,
    driver_is_initialized,
    in_a_fork,
)

NOT_INITIALIZED, NO_DEVICE = 3, 100


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """CUDA's driver before anybody has initialized it."""
    driver = SimpleNamespace(state=NOT_INITIALIZED)
    driver.cuDeviceGetCount = lambda _: driver.state
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    return driver


def test_the_driver_itself_says_whether_it_is_initialized(driver: SimpleNamespace) -> None:
    states = {}
    for driver.state in (NOT_INITIALIZED, NO_DEVICE, 0):
        states[driver.state] = driver_is_initialized()
    assert states == {NOT_INITIALIZED: False, NO_DEVICE: False, 0: True}


def test_a_machine_without_a_driver_has_not_initialized_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert not driver_is_initialized()


def test_vllm_spawns_where_anybody_has_initialized_the_driver(driver: SimpleNamespace) -> None:
    """FlashInfer does while a configuration with tensor parallelism is composed, and torch does not know."""
    torchs = SimpleNamespace(value=False)
    system_utils: Any = SimpleNamespace(cuda_is_initialized=lambda: torchs.value)
    _ask_the_driver(system_utils)
    assert not system_utils.cuda_is_initialized()
    driver.state = 0
    assert system_utils.cuda_is_initialized()
    driver.state, torchs.value = NOT_INITIALIZED, True
    assert system_utils.cuda_is_initialized()


def test_a_vllm_that_does_not_ask_is_not_forked() -> None:
    with pytest.raises(Unsupported, match="does not ask whether CUDA is initialized"):
        _ask_the_driver(SimpleNamespace())


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Any:
    """vLLM's registry of models, which looks at a class in a process that imports vLLM anew."""
    registry: Any = ModuleType("vllm.model_executor.models.registry")
    registry._run_in_subprocess = lambda inspect: "imported anew"
    monkeypatch.setitem(sys.modules, registry.__name__, registry)
    return registry


def test_a_model_is_looked_at_in_a_fork_while_the_driver_is_not_initialized(registry: Any) -> None:
    """Another import of vLLM took longer than a check of kernels may, which then answered nothing."""
    initialized: list[bool] = []
    _inspect_models(in_a_fork, without=lambda: bool(initialized))
    pid = registry._run_in_subprocess(os.getpid)
    assert pid != os.getpid() and not os.path.exists(f"/proc/{pid}")
    initialized.append(True)
    assert registry._run_in_subprocess(os.getpid) == "imported anew"


def test_what_fails_in_a_fork_fails_here() -> None:
    with pytest.raises(RuntimeError, match="ValueError: no such class"):
        in_a_fork(lambda: _raise(ValueError("no such class")))
    with pytest.raises(RuntimeError, match="ended without an answer"):
        in_a_fork(lambda: os._exit(1))


def _raise(error: Exception) -> None:
    raise error
