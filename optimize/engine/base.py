"""Interfaces of engines: a launcher turns a configuration into a live endpoint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from objectives import MemoryParts
from optimize.errors import ConfigError, EngineFailure
from optimize.redaction import basic_authentication, hidden_flags, is_secret, redact_all

Flags = tuple[tuple[str, Any], ...]
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings fixed at an engine's start. Configurations with equal keys may share a live engine.

    Attributes:
        checkpoint: Local folder or Hugging Face id of the weights.
        quantization: Name of the checkpoint's recipe, for display only.
        flags: vLLM flags by name (with underscores); None means vLLM's own default.
        env: Environment variables of its own, sorted by name; none of them a secret.
    """

    checkpoint: str
    quantization: str
    flags: Flags = ()
    env: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that identify the configuration, whatever the values of its secrets."""
        variables = [self.env] if self.env else []  # engines without any keep the key that earlier versions gave them
        parts = [self.checkpoint, sorted(hidden_flags(self.flags)), *variables]
        raw = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(raw.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class RequestConfig:
    """Settings of each request; changing them needs no new engine.

    Attributes:
        beam_size: Beams of beam search; 1 is greedy decoding.
        fields: Further fields of the request, e.g. ("temperature", 0.7).
    """

    beam_size: int = 1
    fields: Flags = ()


@dataclass(frozen=True, slots=True)
class TrialConfig:
    """One point of the search space, resolved."""

    engine: EngineConfig
    request: RequestConfig

    def shown(self) -> dict[str, Any]:
        """Its fields for records, the names of secrets in the place of their values."""
        raw = dataclasses.asdict(self)
        raw["engine"]["flags"] = hidden_flags(self.engine.flags)
        return redact_all(raw)


@dataclass(frozen=True, slots=True)
class Access:
    """What an endpoint of somebody else asks for beyond what vLLM's own server does.

    Attributes:
        api_path: Path of its API below the base URL; empty where the base URL is that of the API itself.
        query: Query that every address ends in, without its question mark.
        headers: Further headers of every request.
        key_header: Header that holds the key as it is; None sends it as a bearer token.
        ca_file: File of certificates that are trusted beside the usual ones.
        fields: Further fields of every request to the model; None as a value leaves one out that is usually sent.
        tokenizer: Folder or Hugging Face id of the tokenizer that counts answers where the endpoint does not.
    """

    api_path: str = "/v1"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    key_header: str | None = None
    ca_file: str | None = None
    fields: Flags = ()
    tokenizer: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of a live engine.

    Attributes:
        base_url: Scheme, host, port and path, without a trailing slash.
        api_key: Sent as a bearer token; None where the endpoint requires none.
        model: The model name that requests must carry.
        login: User and password, "user:password", sent in the place of a key (basic authentication).
        access: What else it asks for.
        others: Further names; then the prompts ask for all of them in turn, `model` first.
    """

    base_url: str
    api_key: str | None
    model: str
    login: str | None = None
    access: Access = Access()
    others: tuple[str, ...] = ()

    def model_of(self, row: int) -> str:
        """The model name of the requests with one prompt, which is always the same."""
        return (self.model, *self.others)[row % (1 + len(self.others))]

    @property
    def headers(self) -> dict[str, str]:
        return self._authorization() | dict(self.access.headers)

    @property
    def secrets(self) -> list[str]:
        """What of it must not be shown."""
        hidden = [value for name, value in self.access.headers if is_secret(name, value)]
        return [*hidden, *(secret for secret in (self.api_key, self.login) if secret)]

    def path(self, name: str) -> str:
        """The path of a part of the API below the base URL: "/models" -> "/v1/models"."""
        return f"{self.access.api_path}{name}"

    def url(self, name: str) -> str:
        """The whole address of a part of the API, such as "/chat/completions"."""
        query = self.access.query
        return f"{self.base_url}{self.path(name)}{'?' if query else ''}{query}"

    def _authorization(self) -> dict[str, str]:
        if self.login is not None:
            return {"Authorization": f"Basic {basic_authentication(self.login)}"}
        if self.api_key is None:
            return {}
        header = self.access.key_header
        return {"Authorization": f"Bearer {self.api_key}"} if header is None else {header: self.api_key}


def key_from(variable: str) -> str | None:
    """The API key in a variable of the environment; None where it is not set.

    Raises:
        ConfigError: it cannot stand in a header. The message does not show it.
    """
    key = os.environ.get(variable) or None
    if key is not None and not all("!" <= character <= "~" for character in key):
        raise ConfigError(
            f"the key in ${variable} holds a line break, a space or another character that no key has: set it anew "
            "without it (printf, not echo)"
        )
    return key


def header_of(name: str, value: object) -> tuple[str, str]:
    """A header of the user's.

    Raises:
        ConfigError: its name or its value cannot stand in a request. The message does not show the value.
    """
    text = str(value).strip()
    if not _TOKEN.fullmatch(name) or not (text.isprintable() and text.isascii()):
        raise ConfigError(
            f"engine.headers.{name}: a header has a name of letters, digits and hyphens, and a value of one line of "
            "printable ASCII"
        )
    return name, text


class Engine(Protocol):
    """A live engine."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def pids(self) -> Sequence[int]:
        """Processes of the engine; empty where they run on a machine that cannot be inspected."""

    def check(self) -> None:
        """Raise EngineFailure if any process of the engine has died."""

    def reset(self) -> None:
        """Clear the prefix cache, so that no trial profits from another, and start a new measurement of peak memory."""

    def memory(self) -> MemoryParts | None:
        """Memory that the engine holds; None where that cannot be inspected."""

    def effective(self, names: Sequence[str]) -> dict[str, Any]:
        """Values that the engine runs with, for those flags that it reports."""

    def stop(self) -> None:
        """Stop every process of the engine; returns once none is left."""


class Launcher(Protocol):
    """Starts engines of one kind; configured by `conf/engine/`."""

    @property
    def request_knobs_only(self) -> bool:
        """Whether only request knobs can be set, as for an endpoint that somebody else runs."""

    def preflight(self, flag_names: Sequence[str]) -> None:
        """Raise ConfigError for errors that can be detected before an engine starts."""

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        """Name -> why its engine cannot run here, for those refusals that show without starting it."""

    def report_cached_tokens(self) -> None:
        """Have engines say with each answer how many tokens of its prompt they found cached, where they can."""

    def prepare(self) -> None:
        """Begin in the background what makes later starts faster."""

    def close(self) -> None:
        """End what `prepare` began, and release its processes."""

    def version(self) -> str:
        """Name and version of the engine software, for signatures."""

    def deploy_command(self, config: EngineConfig) -> str:
        """The shell command that serves this configuration in production; empty where there is none."""

    def launch(self, config: EngineConfig, log_path: Path) -> Engine:
        """Start an engine and wait until it is ready.

        Raises:
            EngineFailure: the configuration cannot run here.
            TransientFault: the start failed for a reason other than the configuration.
        """
