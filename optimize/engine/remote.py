"""An OpenAI-compatible endpoint that somebody else runs, for which only request knobs can be tuned."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from objectives import MemoryParts
from optimize.engine.base import Endpoint, EngineConfig, key_from
from optimize.engine.http_client import client_of
from optimize.engine.proxies import proxy_of
from optimize.errors import ConfigError, EngineFailure, FailureKind
from optimize.redaction import login_of, redacted, without_credentials

_TIMEOUT_S, _CHECK_EVERY_S = 4.0, 2.0


class RemoteEngine:
    """The endpoint, which can be neither stopped nor inspected from here."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.pids: Sequence[int] = ()
        self._checked_at = -_CHECK_EVERY_S

    def check(self) -> None:
        """Check that the endpoint answers, at most every two seconds so that checks add no load."""
        if time.monotonic() - self._checked_at < _CHECK_EVERY_S:
            return
        self._checked_at = time.monotonic()
        try:
            with client_of(self.endpoint, _TIMEOUT_S) as http:
                http.get("/v1/models")
        except httpx.HTTPError as error:
            raise EngineFailure(FailureKind.CRASH, f"endpoint {self.endpoint.base_url}: {error}") from error

    def reset(self) -> None:
        """Nothing: its caches cannot be cleared from here."""

    def memory(self) -> MemoryParts | None:
        return None

    def effective(self, names: Sequence[str]) -> dict[str, Any]:
        return {}

    def stop(self) -> None:
        """Nothing: it keeps running."""


@dataclass
class RemoteLauncher:
    """Connects to an endpoint; its fields are the keys of `conf/engine/remote.yaml`.

    Attributes:
        base_url: Scheme, host and port; with user and password where the endpoint asks for these in place of a key.
        model: Name of the served model; None takes the first one listed.
        api_key_env: Environment variable that holds the key, which a configuration never contains.
    """

    base_url: str
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    flags: dict[str, Any] = field(default_factory=dict)
    request_knobs_only: bool = field(default=True, init=False)

    def preflight(self, flag_names: Sequence[str]) -> None:
        if flag_names or self.flags:
            named = ", ".join([*flag_names, *self.flags])
            raise ConfigError(
                f"engine=remote can tune request knobs only, got engine knobs {named}: "
                "choose space=request or remove them, e.g. '~search_space.batch_size'"
            )
        self._served_model()

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        return {}  # none show before a start

    def prepare(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to close."""

    def version(self) -> str:
        return f"remote {without_credentials(self.base_url)}"

    def deploy_command(self, config: EngineConfig) -> str:
        return ""

    def launch(self, config: EngineConfig, log_path: Path) -> RemoteEngine:
        return RemoteEngine(self._endpoint(self._served_model()))

    def _endpoint(self, model: str) -> Endpoint:
        login = login_of(self.base_url)
        key = None if login is not None else key_from(self.api_key_env)
        return Endpoint(without_credentials(self.base_url).rstrip("/"), key, model, login)

    def _served_model(self) -> str:
        endpoint = self._endpoint("")
        try:
            with client_of(endpoint, _TIMEOUT_S) as http:
                answer = http.get("/v1/models")
            served = [str(m["id"]) for m in answer.raise_for_status().json()["data"]]
        except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError) as error:
            raise ConfigError(
                f"engine.base_url={redacted(self.base_url)} does not answer /v1/models{_way(endpoint.base_url)} "
                f"({error}): check the address and the key in ${self.api_key_env}"
            ) from error
        if self.model is not None and self.model not in served:
            raise ConfigError(f"engine.model={self.model!r} is not served there: it serves {', '.join(served)}")
        return self.model or served[0]


def _way(url: str) -> str:
    """By which proxy an address was asked, for messages; empty where it was asked directly."""
    proxy = None
    with suppress(ValueError):  # no address at all
        proxy = proxy_of(url)
    return f" by way of the environment's proxy {redacted(proxy)}, which no_proxy can exempt it from," if proxy else ""
