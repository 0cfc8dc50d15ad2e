"""Addresses with credentials: what of them may be shown, and what they hide."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote

from optimize.redaction.names import MASK, is_secret_name

_HOST = re.compile(r"(\[[^\]]*\]|[^:@]*)(:\d*)?")


def shown(address: str) -> str:
    """An address without its password, or a token in its place, and without secret fields of its query."""
    scheme, colon, rest = address.partition("://")
    if not colon:
        return address
    at = _end_of_user(rest)
    user = f"{_shown_user(scheme, rest[:at])}@" if at >= 0 else ""
    path, mark, query = rest[at + 1 :].partition("?")
    return f"{scheme}://{user}{path}{mark}{'&'.join(_shown_field(field) for field in query.split('&'))}"


def without_credentials(address: str) -> str:
    """An address without user and password, for links that others may open."""
    scheme, colon, rest = address.partition("://")
    return f"{scheme}://{rest[_end_of_user(rest) + 1 :]}" if colon else address


def login_of(address: str) -> str | None:
    """User and password of an address as they are sent, "user:password"; None where it has none."""
    _, colon, rest = address.partition("://")
    at = _end_of_user(rest) if colon else -1
    if at < 0:
        return None
    user, _, password = rest[:at].partition(":")
    return f"{unquote(user)}:{unquote(password)}"


def basic_authentication(login: str) -> str:
    """User and password in the form in which a header holds them."""
    return base64.b64encode(login.encode()).decode()


def credentials_in(address: str) -> list[str]:
    """The secrets within an address: its password, or the token in place of a user, and secret fields of its query;
    user and password also as a header holds them.
    """
    scheme, colon, rest = address.partition("://")
    if not colon:
        return []
    at = _end_of_user(rest)
    user, _, password = rest[: max(at, 0)].partition(":")
    fields = [field.partition("=") for field in rest.partition("?")[2].split("&")]
    hidden = [user] if user and user not in _shown_user(scheme, rest[:at]) else []
    if (hidden or password) and (login := login_of(address)):
        hidden.append(basic_authentication(login))
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
