"""The model of somebody else's endpoint, found or confirmed before anything is measured."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx

from optimize.engine.base import Endpoint
from optimize.engine.http_client import client_of
from optimize.engine.proxies import proxy_of
from optimize.errors import ConfigError, closest, one_line
from optimize.redaction import redacted

_LIST_S, _ANSWER_S = 10.0, 60.0
_DENIED, _ABSENT = (401, 403), (404, 405, 501)
_QUESTIONS: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]}, "/completions": {"prompt": "Hi"},
}  # fmt: skip


def served_model(endpoint: Endpoint, name: str | None, key_variable: str) -> str:
    """The name that requests must carry.

    A model that the endpoint does not list, as with Azure's deployments and with gateways that list nothing, is asked
    for one token.

    Args:
        endpoint: The endpoint, without a model.
        name: The model that the user names; None takes the first one listed.
        key_variable: Environment variable of the key, for messages.

    Raises:
        ConfigError: the endpoint does not answer, refuses the key, or does not serve the model.
    """
    with client_of(endpoint, _LIST_S) as http:
        try:
            listing = http.get(endpoint.path("/models"))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ConfigError(_unreachable(endpoint, error, key_variable)) from error
        listed = _listed(listing)
        if name is None:
            if not listed:
                raise ConfigError(_unlisted(endpoint, listing, key_variable))
            return listed[0]
        if name not in listed:
            _require_answer(http, endpoint, name, listed, key_variable)
    return name


def _listed(listing: httpx.Response) -> list[str]:
    """The models that an endpoint lists; none where it has no such list."""
    if listing.is_success:
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            content = listing.json()
            return [str(model["id"]) for model in (content["data"] if isinstance(content, dict) else content)]
    return []


def _require_answer(
    http: httpx.Client, endpoint: Endpoint, name: str, listed: list[str], key_variable: str
) -> None:  # fmt: skip
    """Ask a model for one token by either kind of request; any other refusal is for the load to report.

    Raises:
        ConfigError: the key is refused, or no such model is served.
    """
    answers = []
    for path, question in _QUESTIONS.items():
        try:
            body = {"model": name, "max_tokens": 1, **question}
            answers.append(http.post(endpoint.path(path), json=body, timeout=_ANSWER_S))
        except httpx.HTTPError:
            return  # slow, perhaps: it may have to load the model first
        if answers[-1].status_code not in _ABSENT:
            break
    status = answers[-1].status_code
    if status in _DENIED:
        raise ConfigError(_denied(endpoint, status, key_variable))
    if status in _ABSENT:
        serves = f"; it lists others: {closest(name, listed)}" if listed else ""
        raise ConfigError(
            f"engine.model={name!r} is not served at {_shown(endpoint)} (HTTP {status}: {_cause(answers[0])}){serves}"
        )


def _unreachable(endpoint: Endpoint, error: Exception, key_variable: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        remedy = "name the file of the authority that signed its certificate, engine.ca_file=FILE.pem"
    else:
        remedy = f"check the address and the key in ${key_variable}"
    return f"engine.base_url={_shown(endpoint)} does not answer{_way(endpoint.base_url)} ({one_line(error)}): {remedy}"


def _unlisted(endpoint: Endpoint, listing: httpx.Response, key_variable: str) -> str:
    if listing.status_code in _DENIED:
        return _denied(endpoint, listing.status_code, key_variable)
    path, way = endpoint.path("/models"), _way(endpoint.base_url)
    return (
        f"engine.base_url={_shown(endpoint)} does not answer {path}{way} with a list of models "
        f"(HTTP {listing.status_code}: {_cause(listing)}): name the model, engine.model=NAME, or check the address"
    )


def _denied(endpoint: Endpoint, status: int, key_variable: str) -> str:
    if endpoint.login is not None:
        return f"engine.base_url={_shown(endpoint)} refuses its user and password (HTTP {status}): check them"
    if endpoint.api_key is None:
        return (
            f"engine.base_url={_shown(endpoint)} asks for a key (HTTP {status}): set ${key_variable}, or name another "
            "variable, engine.api_key_env=NAME"
        )
    return (
        f"engine.base_url={_shown(endpoint)} refuses the key in ${key_variable} (HTTP {status}): check it, or name the "
        "header that must carry it, e.g. engine.key_header_name=api-key for Azure"
    )


def _shown(endpoint: Endpoint) -> str:
    return redacted(f"{endpoint.base_url}{endpoint.access.api_path}")


def _cause(answer: httpx.Response) -> str:
    if answer.is_redirect:
        return f"moved to {redacted(answer.headers.get('Location', 'nowhere'))}"
    return one_line(ValueError(answer.text or answer.reason_phrase), 200)


def _way(url: str) -> str:
    """By which proxy an address was asked, for messages; empty where it was asked directly."""
    proxy = proxy_of(url)
    return f" by way of the environment's proxy {redacted(proxy)}, which no_proxy can exempt it from," if proxy else ""
