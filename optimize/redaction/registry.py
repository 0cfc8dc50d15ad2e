"""The secrets of this process, and texts without them."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, unquote

from optimize.redaction.addresses import credentials_in, shown
from optimize.redaction.names import MASK, SHORTEST, is_plain, is_secret_name, is_setting, variable_of

_IN_ADDRESS = re.compile(r"([A-Za-z][\w+.-]*://[^\s/:@'\"]*:)(?!\$\{)[^\s/@'\"<>]+(?=@)")
_registry: dict[str, str] = {}
_replacements: list[tuple[str, str]] = []
T = TypeVar("T")


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
    return {form for form in forms | {_in_json(form) for form in forms} if len(form) >= SHORTEST}


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


def redact(text: str) -> str:
    """A text with what stands for them in the place of all registered secrets and of passwords within addresses."""
    for form, stand_in in _replacements:
        if form in text:
            text = text.replace(form, stand_in)
    return _IN_ADDRESS.sub(rf"\g<1>{MASK}", text) if "://" in text else text


def redacted(address: str) -> str:
    """An address without its password, or a token in its place, and without secret fields of its query."""
    return redact(shown(address))


def is_secret(name: str, value: object) -> bool:
    """Whether the value of a flag or variable must not be shown: by its name, or because it holds a secret."""
    text = str(value)
    return (is_secret_name(name) and not is_setting(text)) or redact(text) != text


def redact_all(value: T) -> T:
    """Mappings, sequences and texts, redacted throughout."""
    redone: Any = value
    if isinstance(value, Mapping):
        redone = {key: redact_all(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        redone = type(value)(map(redact_all, value))
    elif isinstance(value, str):
        redone = redact(value)
    return redone  # type: ignore[no-any-return]


def masked(settings: T, name: str = "") -> T:
    """Settings redacted throughout, and what a secret's name holds masked, short and common values included."""
    redone: Any = settings
    if isinstance(settings, Mapping):
        redone = {key: masked(item, str(key)) for key, item in settings.items()}
    elif isinstance(settings, list | tuple):
        redone = type(settings)(masked(item, name) for item in settings)
    elif isinstance(settings, str):
        shown = redact(settings)
        hides = shown == settings and "${" not in settings and is_secret(name, settings)
        redone = MASK if hides else shown
    return redone  # type: ignore[no-any-return]


def hidden_flags(flags: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    """Flags with the variable of each secret in the place of its value."""
    return tuple((name, f"${variable_of(name)}" if is_secret(name, value) else value) for name, value in flags)


def reveal(value: Any) -> Any:
    """The secret whose name a value is; any other value as it is."""
    return next((secret for secret, stand_in in _registry.items() if stand_in == value != MASK), value)
