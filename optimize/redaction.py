"""Secrets: what counts as one, what stands in its place, and their removal from every text that leaves.

A secret is registered by its value once, when the configuration is composed. From then on `redact` puts its name in the
place of the value: in streams (`redacted_streams`), in files (`optimize.files`), in what storage and tracking receive.
The run itself uses the value. Why it is done by value, and what is no secret: docs/decisions/030-secrets.md.
"""

from __future__ import annotations

import html
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, TypeVar
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
"""Stands for a secret that has no name: a literal of the command line, a password within an address."""
_SECRET_WORDS = frozenset(
    {
        "apikey", "auth", "authorization", "authtoken", "bearer", "cookie", "credential", "credentials", "dsn", "key",
        "passphrase", "passwd", "password", "pwd", "secret", "secrets", "sig", "signature", "token", "webhook",
    }
)  # fmt: skip
_HARMLESS_ENDS = frozenset(
    {"column", "dir", "env", "file", "folder", "id", "length", "limit", "name", "path", "s", "size", "sock", "type"}
)
_SHORTEST, _SHORTEST_WORD = 6, 12
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_HOST = re.compile(r"(\[[^\]]*\]|[^:@]*)(:\d*)?")
_IN_ADDRESS = re.compile(r"([A-Za-z][\w+.-]*://[^\s/:@'\"]*:)(?!\$\{)[^\s/@'\"<>]+(?=@)")
_FIXED_VARIABLES = {"hf_token": "HF_TOKEN", "api_key": "VLLM_API_KEY"}
"""vLLM's flags with a variable of another name that vLLM, or the library below it, reads itself."""
_registry: dict[str, str] = {}
_replacements: list[tuple[str, str]] = []
T = TypeVar("T")


# --- what counts as a secret ------------------------------------------------------------------------------------------


def is_secret_name(name: str) -> bool:
    """Whether a flag, a variable or a key is named like a secret: HF_TOKEN, db-password, apiKey; not max_tokens."""
    words = [word.lower() for word in _WORDS.findall(name.rpartition(".")[2])]
    return bool(words) and not _SECRET_WORDS.isdisjoint(words) and words[-1] not in _HARMLESS_ENDS


def variable_of(flag: str) -> str:
    """The environment variable that carries the secret of a flag: hf_token -> HF_TOKEN, api-key -> VLLM_API_KEY."""
    name = flag.lstrip("-").replace("-", "_")
    return _FIXED_VARIABLES.get(name, name.upper())


def is_secret(name: str, value: object) -> bool:
    """Whether the value of a flag or variable must not be shown: by its name, or because it holds a secret."""
    text = str(value)
    return (is_secret_name(name) and not _is_setting(text)) or redact(text) != text


def references(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of a deploy command that whoever runs it must set: those that are given as `NAME=$NAME`."""
    return tuple(name for name, value in environment.items() if value == f"${name}")


def is_plain(value: str) -> bool:
    """Whether a value is too short or too common to be found in a text without damage to other words.

    Fewer than six characters, a number, a plain word of fewer than twelve letters, or a special token (`<|end|>`).
    """
    text = value.strip()
    word = text.isalpha() and len(text) < _SHORTEST_WORD
    return len(text) < _SHORTEST or word or _is_setting(text)


def _is_setting(text: str) -> bool:
    """Whether a text is a number, a truth value, nothing, a special token, or a path that exists here."""
    common = text.lower() in ("", "true", "false", "none", "null", "auto") or re.fullmatch(r"<.*>|\$\{.*\}", text)
    return bool(common) or _is_number(text) or _is_path(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_path(text: str) -> bool:
    """Whether a text is a path of this machine, or would be one below a folder at the root: keys may begin with /."""
    first = re.match(r"/[^/]+(?=/)", text)
    try:
        return os.path.exists(text) or (first is not None and os.path.isdir(first.group()))
    except ValueError:
        return False


# --- addresses --------------------------------------------------------------------------------------------------------


def redacted(address: str) -> str:
    """An address without its password, or a token in its place, and without secret fields of its query."""
    scheme, colon, rest = address.partition("://")
    if not colon:
        return redact(address)
    at = _end_of_user(rest)
    user = f"{_shown_user(scheme, rest[:at])}@" if at >= 0 else ""
    path, mark, query = rest[at + 1 :].partition("?")
    return redact(f"{scheme}://{user}{path}{mark}{'&'.join(_shown_field(field) for field in query.split('&'))}")


def without_credentials(address: str) -> str:
    """An address without user and password, for links that others may open."""
    scheme, colon, rest = address.partition("://")
    return f"{scheme}://{rest[_end_of_user(rest) + 1 :]}" if colon else address


def credentials_in(address: str) -> list[str]:
    """The secrets within an address: its password, or the token in place of a user, and secret fields of its query."""
    scheme, colon, rest = address.partition("://")
    if not colon:
        return []
    at = _end_of_user(rest)
    user, _, password = rest[: max(at, 0)].partition(":")
    fields = [field.partition("=") for field in rest.partition("?")[2].split("&")]
    hidden = [user] if user and user not in _shown_user(scheme, rest[:at]) else []
    return [text for text in (*hidden, password, *(v for k, _, v in fields if is_secret_name(k))) if text]


def _end_of_user(rest: str) -> int:
    """Position of the @ that ends user and password; -1 without any. A password may hold a slash or a question mark."""
    head = rest.partition("?")[0]
    authority = head.partition("/")[0]
    if "@" in authority:
        return authority.rfind("@")
    if _HOST.fullmatch(authority):
        return -1
    return head.rfind("@") if "@" in head else rest.rfind("@")


def _shown_user(scheme: str, user_info: str) -> str:
    user, colon, password = user_info.partition(":")
    if scheme.startswith("http") and password in ("", "x-oauth-basic"):
        return MASK  # a token stands where the user would
    return f"{user}:{MASK}" if colon else user


def _shown_field(field: str) -> str:
    name, equals, _ = field.partition("=")
    return f"{name}={MASK}" if equals and is_secret_name(name) else field


# --- the registry -----------------------------------------------------------------------------------------------------


def register(value: str, stand_in: str = MASK) -> None:
    """Have a value replaced from now on, in whatever form it stands in a text, unless it `is_plain`.

    Args:
        value: The secret.
        stand_in: What takes its place, such as `$HF_TOKEN`; a name once registered stays.
    """
    if is_plain(value) or _registry.get(value, MASK) != MASK:
        return
    _registry[value] = stand_in
    forms = {form: name for secret, name in _registry.items() for form in _forms(secret)}
    # The longest first: one secret may be part of another.
    _replacements[:] = sorted(forms.items(), key=lambda pair: -len(pair[0]))


def register_variable(name: str, value: str) -> None:
    """Register a variable of the environment; of an address only its credentials, unless the name is a secret's."""
    if "://" not in value or is_secret_name(name):
        register(value, f"${name}")
    register_credentials(value)


def register_credentials(address: str) -> None:
    """Register the secrets within an address."""
    for secret in credentials_in(address):
        register(secret)


def register_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Register all variables of the environment that are named like secrets, and the passwords within addresses."""
    for name, value in environment.items():
        if is_secret_name(name):
            register_variable(name, value)
        else:
            register_credentials(value)


def registered() -> dict[str, str]:
    """Value -> stand-in of all secrets, for a process that is to hide the same (`register_all`)."""
    return dict(_registry)


def register_all(secrets: Mapping[str, str]) -> None:
    for value, stand_in in secrets.items():
        register(value, stand_in)


@contextmanager
def forgetting() -> Iterator[None]:
    """What is registered within is forgotten at the end."""
    registry, replacements = dict(_registry), list(_replacements)
    try:
        yield
    finally:
        _registry.clear()
        _registry.update(registry)
        _replacements[:] = replacements


def _forms(secret: str) -> set[str]:
    """A secret as it may stand in a text: as it is, by lines, percent-encoded or decoded, escaped."""
    lines = [line.strip() for line in secret.splitlines() if not is_plain(line)]
    bare = {secret, secret.strip(), *lines, unquote(secret), quote(secret), quote(secret, safe=""), quote_plus(secret)}
    forms = bare | {escape(form) for form in bare for escape in _ESCAPES}
    return {form for form in forms | {_in_json(form) for form in forms} if len(form) >= _SHORTEST}


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


_ESCAPES: tuple[Callable[[str], str], ...] = (
    _in_json,
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    html.escape,
    lambda text: html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),  # as Jinja escapes
    lambda text: repr(text)[1:-1],
    lambda text: text.replace("'", "'\"'\"'"),  # in a shell's quotes
    lambda text: text.replace("'", "''"),  # in YAML's and SQL's
)


# --- the ways out -----------------------------------------------------------------------------------------------------


def redact(text: str) -> str:
    """A text with what stands for them in the place of all registered secrets and of passwords within addresses."""
    for form, stand_in in _replacements:
        if form in text:
            text = text.replace(form, stand_in)
    return _IN_ADDRESS.sub(rf"\g<1>{MASK}", text) if "://" in text else text


def redact_all(value: T, name: str = "") -> T:
    """Mappings, sequences and texts, redacted throughout; what a secret's name holds is masked as a whole."""
    redone: Any = value
    if isinstance(value, Mapping):
        redone = {key: redact_all(item, str(key)) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        redone = type(value)(redact_all(item, name) for item in value)
    elif isinstance(value, str):
        shown = redact(value)
        redone = MASK if shown == value and is_secret_name(name) and not _is_setting(value) else shown
    return redone  # type: ignore[no-any-return]


class RedactedStream:
    """A text stream that hides secrets."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def redacted_streams() -> Iterator[None]:
    """Standard output and standard errors hide secrets within."""
    with redirect_stdout(RedactedStream(sys.stdout)), redirect_stderr(RedactedStream(sys.stderr)):
        yield
