"""What is changed in vLLM so that its engines can be forked, on modules that stand for vLLM's."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from optimize.engine.vllm_adaptation import Unsupported, _ask_the_driver, driver_is_initialized

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
