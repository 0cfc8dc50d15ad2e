"""Addresses of endpoints, as people write them."""

from __future__ import annotations

import pytest

from optimize.engine.address import Address, address_of
from optimize.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "chat"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("http://host:8000/v1", "http://host:8000/v1"),
        (" http://host:8000/v1/ ", "http://host:8000/v1"),
        ("http://host:8000/v1/chat/completions", "http://host:8000/v1"),
        ("http://host:8000/v1/completions", "http://host:8000/v1"),
        ("http://host/team/llm", "http://host/team/llm/v1"),
        ("http://host/team/llm/v1/", "http://host/team/llm/v1"),
        ("https://openrouter.example/api/v1", "https://openrouter.example/api/v1"),
        ("https://google.example/v1beta/openai/", "https://google.example/v1beta/openai"),
        ("https://zhipu.example/api/paas/v4", "https://zhipu.example/api/paas/v4"),
        ("https://me.example/openai/deployments/gpt", "https://me.example/openai/deployments/gpt"),
        ("https://host/v100/llm", "https://host/v100/llm"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
        ("HTTP://Host:8000", "http://Host:8000/v1"),
    ],
)
def test_the_api_is_where_the_address_says(url: str, chat: str) -> None:
    address = address_of(url)
    assert f"{address.base_url}{address.api_path}" == chat and address.query == ""


def test_query_and_credentials_are_taken_apart() -> None:
    assert address_of("https://al%40ice:s3%2Fcret@host/v1?api-version=1&x=2") == Address(
        "https://host", "/v1", "api-version=1&x=2", "al@ice:s3/cret"
    )


@pytest.mark.parametrize(
    "url", ["localhost:8000", "host", "", "ftp://host", "http://", "http://host:99999", "http://a b"]
)
def test_what_is_no_address_is_one_line_with_the_remedy(url: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.base_url must be an address http://host:port"):
        address_of(url)


def test_a_refused_address_keeps_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        address_of("ftp://alice:s3cret-word@host")
    assert "s3cret" not in str(caught.value)
