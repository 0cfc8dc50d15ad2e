"""An OpenAI-compatible endpoint that somebody else runs, for which only request knobs can be tuned."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from objectives import MemoryParts
from optimize.checkpoint import local_folder
from optimize.engine.address import Address, address_of
from optimize.engine.base import Access, Endpoint, EngineConfig, header_of, key_from
from optimize.engine.http_client import client_of
from optimize.engine.served_model import served_model
from optimize.errors import ConfigError, EngineFailure, TransientFault, one_line
from optimize.redaction import redacted, without_credentials

_TIMEOUT_S, _CHECK_EVERY_S = 4.0, 2.0


class RemoteEngine:
    """The endpoint, which can be neither stopped nor inspected from here."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.pids: Sequence[int] = ()
        self._checked_at = -_CHECK_EVERY_S

    def check(self) -> None:
        """Check that there is a server, whatever it answers, at most every two seconds so that checks add no load.

        One that is slow is not dead: the load itself shows how slow it is.

        Raises:
            TransientFault: there is none any more, which no request setting brings about.
        """
        if time.monotonic() - self._checked_at < _CHECK_EVERY_S:
            return
        self._checked_at = time.monotonic()
        try:
            with client_of(self.endpoint, _TIMEOUT_S) as http:
                http.get(self.endpoint.path("/models"))
        except httpx.TimeoutException:
            return
        except httpx.HTTPError as error:
            shown = redacted(self.endpoint.base_url)
            raise TransientFault(f"the endpoint {shown} does not answer any more: {one_line(error)}") from error

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
        base_url: Its address, with or without /v1; with user and password where it asks for these in place of a key.
        model: Name of the served model; None takes the first one listed.
        api_key_env: Environment variable that holds the key, which a configuration never contains.
        key_header_name: Header that carries the key as it is, e.g. api-key on Azure; None sends it as a bearer token.
        headers: Further headers of every request; None for none.
        ca_file: File of certificates (PEM) that are trusted beside the usual ones.
        request: Further fields of every request to the model; a value of null leaves out one that is usually sent.
        tokenizer: Folder or Hugging Face id of the tokenizer that counts answers where the endpoint does not; None
            leaves them without a count.
    """

    base_url: str
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    key_header_name: str | None = None
    headers: dict[str, Any] | None = None
    ca_file: str | None = None
    request: dict[str, Any] | None = None
    tokenizer: str | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    request_knobs_only: bool = field(default=True, init=False)
    _confirmed: str | None = field(default=None, init=False)

    def preflight(self, flag_names: Sequence[str]) -> None:
        if flag_names or self.flags:
            named = ", ".join([*flag_names, *self.flags])
            raise ConfigError(
                f"engine=remote can tune request knobs only, got engine knobs {named}: "
                "choose space=request or remove them, e.g. '~search_space.batch_size'"
            )
        self._require_tokenizer()
        self._served_model()

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        return {}  # none show before a start

    def report_cached_tokens(self) -> None:
        """Nothing: whether it says so is for whoever runs it to decide."""

    def prepare(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to close."""

    def version(self) -> str:
        counts = f", answers without a count counted by {self.tokenizer}" if self.tokenizer else ""
        return f"remote {redacted(without_credentials(self.base_url))}{counts}"

    def deploy_command(self, config: EngineConfig) -> str:
        return ""

    def launch(self, config: EngineConfig, log_path: Path) -> RemoteEngine:
        return RemoteEngine(self.endpoint())

    def endpoint(self) -> Endpoint:
        """The endpoint with the model that it serves."""
        return self._endpoint(self._served_model())

    def _served_model(self) -> str:
        """The model, for which the endpoint is asked once: the question may cost a token."""
        if self._confirmed is None:
            self._confirmed = served_model(self._endpoint(""), self.model, self.api_key_env)
        return self._confirmed

    def _require_tokenizer(self) -> None:
        try:
            missing = self.tokenizer is not None and not (local_folder(self.tokenizer) / "tokenizer.json").is_file()
        except (OSError, ValueError):  # of the hub's library
            missing = True
        if missing:
            raise ConfigError(f"engine.tokenizer={self.tokenizer} has no tokenizer.json: name the folder of a model")

    def _endpoint(self, model: str) -> Endpoint:
        address = address_of(self.base_url)
        key = None if address.login is not None else key_from(self.api_key_env)
        return Endpoint(address.base_url, key, model, address.login, self._access(address))

    def _access(self, address: Address) -> Access:
        headers = tuple(header_of(name, value) for name, value in (self.headers or {}).items())
        key_header = None if self.key_header_name is None else header_of(self.key_header_name, "")[0]
        return Access(
            address.api_path, address.query, headers, key_header, self.ca_file, tuple((self.request or {}).items()),
            self.tokenizer,
        )  # fmt: skip
