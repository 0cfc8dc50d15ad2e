"""What counts as a secret: by its name, and which values are too short or too common to be one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

MASK = "***"
"""Stands for a secret that has no name: a literal of the command line, a password within an address."""
_SECRET_WORDS = frozenset(
    {
        "apikey", "auth", "authorization", "authtoken", "bearer", "cookie", "credential", "credentials", "dsn", "key",
        "pass", "passphrase", "passwd", "password", "pwd", "secret", "secrets", "sig", "signature", "token", "webhook",
    }
)  # fmt: skip
_SECRET_ENDS = ("apikey", "passwd", "password", "secret", "token")
"""Ends of words that are written as one, such as sslpassword."""
_HARMLESS_ENDS = frozenset(
    {"column", "dir", "env", "file", "folder", "id", "length", "limit", "name", "path", "s", "size", "sock", "type"}
)
SHORTEST, _SHORTEST_WORD = 6, 12
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FIXED_VARIABLES = {"hf_token": "HF_TOKEN", "api_key": "VLLM_API_KEY"}
"""vLLM's flags with a variable of another name that vLLM, or the library below it, reads itself."""


def is_secret_name(name: str) -> bool:
    """Whether a flag, a variable or a key is named like a secret: HF_TOKEN, db-password, apiKey; not max_tokens."""
    words = [word.lower() for word in _WORDS.findall(name.rpartition(".")[2])]
    secret = any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) for word in words)
    return secret and words[-1] not in _HARMLESS_ENDS


def variable_of(flag: str) -> str:
    """The environment variable that carries the secret of a flag: hf_token -> HF_TOKEN, api-key -> VLLM_API_KEY."""
    name = flag.lstrip("-").replace("-", "_")
    return _FIXED_VARIABLES.get(name, name.upper())


def references(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of a deploy command that whoever runs it must set: those that are given as `NAME=$NAME`."""
    return tuple(name for name, value in environment.items() if value == f"${name}")


def is_plain(value: str) -> bool:
    """Whether a value is too short or too common to be found in a text without damage to other words.

    Fewer than six characters, a number, a plain word of fewer than twelve letters, or a special token (`<|end|>`).
    """
    text = value.strip()
    word = text.isalpha() and len(text) < _SHORTEST_WORD
    return len(text) < SHORTEST or word or is_setting(text)


def is_setting(text: str) -> bool:
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
