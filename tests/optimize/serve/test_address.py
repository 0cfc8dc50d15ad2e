"""The address of the front: its port, and the key that it requires."""

import socket

import pytest

from optimize.config.serve import Serve
from optimize.errors import ConfigError
from optimize.serve.authentication import api_key
from optimize.serve.front import bind


def test_the_key_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    assert api_key(Serve(api_key_env="SOME_KEY")) == "secret"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_key(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("OPTIMIZE_API_KEY", raising=False)
    assert api_key(Serve(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "example.org"])
def test_an_address_that_others_can_reach_needs_a_key(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("OPTIMIZE_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPTIMIZE_API_KEY"):
        api_key(Serve(host=host))


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"serve.port={port}: cannot listen"):
            bind("127.0.0.1", port)


def test_an_impossible_port_is_named() -> None:
    with pytest.raises(ConfigError, match="serve.port=70000"):
        bind("127.0.0.1", 70000)
