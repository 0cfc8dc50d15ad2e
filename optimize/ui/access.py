"""Who may use a server of this package: requests by a name of its own, from its own pages, of the user who started it.

Loopback keeps other machines out, but not what runs on this one. A page of a foreign site reaches a server of loopback
through its visitor's browser: under a name of the site's that points to 127.0.0.1 (DNS rebinding; its Host header gives
it away) or across origins (its Origin header does). Other users of the machine connect to loopback directly; the kernel
tells whose connection it is.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_TABLES = (
    Path("/proc/net/tcp"),
    Path("/proc/net/tcp6"),
)  # tcp6 lists who connected by an IPv4 address mapped into IPv6
_LOCAL, _REMOTE, _STATE, _UID = 1, 2, 3, 7
_ESTABLISHED = "01"
"""The only state with an owner: a socket that its program has closed is listed as root's."""

Address = tuple[str, int]
"""IPv4 address and port of one end of a connection."""


@dataclass(frozen=True)
class Access:
    """Whom a server lets in.

    Attributes:
        hosts: Names by which it may be addressed, in lower case and without a port.
        users: Ids of the users whose connections it accepts.
    """

    hosts: frozenset[str]
    users: frozenset[int]

    def refusal(self, host: str, origin: str | None, ends: tuple[Address, Address] | None) -> str:
        """Why a request is refused; empty if it is not.

        Args:
            host: Its Host header.
            origin: Its Origin header; None without one, as from a link, the address bar or a program.
            ends: The connection: the client's end and the server's; None if the server does not know them.
        """
        name = _HOST.fullmatch(host.lower())
        if name is None or name[1] not in self.hosts:
            return f"This server has no name {host[:80]!r}: add it to ALLOWED_HOSTS of scripts/ui if it is yours."
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            return f"A page of {origin[:80]!r} may not use this server: only its own pages may."
        if owner(ends) not in (*self.users, None):
            return "This server accepts connections of the user who started it: see ALLOWED_USERS of scripts/ui."
        return ""


def owner(ends: tuple[Address, Address] | None) -> int | None:
    """Id of the user whose program opened a connection within this machine.

    Returns:
        The id; -1 if there is no such open connection, None where the kernel lists none (anything but Linux).
    """
    if not _TABLES[0].exists():
        return None
    if ends is None:
        return -1
    client, server = map(_as_listed, ends)
    for line in _lines():
        fields = line.split()
        if fields[_LOCAL].endswith(client) and fields[_REMOTE].endswith(server) and fields[_STATE] == _ESTABLISHED:
            return int(fields[_UID])
    return -1


def _lines() -> Iterable[str]:
    for table in _TABLES:
        if table.exists():
            yield from table.read_text(encoding="ascii").splitlines()[1:]


def _as_listed(address: Address) -> str:
    """An address as the kernel's tables end it: number in the machine's byte order and port, in hexadecimal."""
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"


def add_arguments(options: argparse.ArgumentParser, port: int) -> None:
    """The options that all servers share; `port` is the default of `--port`."""
    options.add_argument("--port", type=int, default=port)
    options.add_argument("--hosts", default="", help="more names of the server, as a proxy passes them on: a.org,b.org")
    options.add_argument("--users", default="", help="more users to accept, e.g. that of a proxy: www-data,1001")


def access_of(options: argparse.ArgumentParser, arguments: argparse.Namespace) -> Access:
    """The access that the command line asks for; ends the process with exit code 2 on a bad name."""
    try:
        return access(arguments.hosts, arguments.users)
    except ValueError as error:
        options.error(str(error))


def access(hosts: str = "", users: str = "") -> Access:
    """Access under the names of loopback, for the user of this process, and for more of both, separated by commas.

    Raises:
        ValueError: not a host name, or no such user.
    """
    names, accounts = ([word.strip() for word in words.split(",") if word.strip()] for words in (hosts, users))
    for name in names:
        if (match := _HOST.fullmatch(name.lower())) is None or match[2]:
            raise ValueError(
                f"{name!r} is not a host name: name hosts without scheme and port, e.g. tuning.example.org"
            )
    return Access(_OWN_NAMES | {name.lower() for name in names}, frozenset({os.getuid(), *map(_user, accounts)}))


def _user(account: str) -> int:
    try:
        return int(account) if account.isdecimal() else pwd.getpwnam(account).pw_uid
    except KeyError:
        raise ValueError(f"this machine has no user {account!r}: correct the name") from None
