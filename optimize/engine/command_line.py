"""Command lines without secrets: what a reader is shown, and what every user of the machine can see in `ps`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence

from optimize.engine.base import Flags
from optimize.engine.flags import to_arguments
from optimize.redaction import hidden_flags, is_secret, masked, redact_all, references, variable_of

_ARGUMENTS = "OPTIMIZE_ARGUMENTS"  # read by optimize.engine.serve


def by_reference(flags: Flags, env: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Variables and arguments of a deploy command, with a reference `$NAME` in the place of each secret.

    Args:
        flags: The flags.
        env: The variables.

    Returns:
        (variable -> value, sorted by name; arguments). Each variable that an argument refers to is among the variables,
        which makes it one that whoever runs the command sets (`optimize.redaction.references`).
    """
    shown = {name: f"${name}" if is_secret(name, value) else value for name, value in env.items()}
    secrets = {variable_of(name) for name, value in flags if value is not None and is_secret(name, value)}
    shown |= {name: f"${name}" for name in secrets}
    return dict(sorted(shown.items())), to_arguments(hidden_flags(flags))


def shell_line(env: Mapping[str, str], command: Iterable[str]) -> str:
    """A command with its variables as a shell takes them; references stay references.

    Args:
        env: Variable -> value; `$NAME` as the value of NAME is a reference.
        command: The words of the command.
    """
    names = references(env)
    variables = [f"{name}={_quoted(value, names)}" for name, value in env.items()]
    return " ".join([*variables, *(_quoted(word, names) for word in command)])


def _quoted(word: str, names: Sequence[str]) -> str:
    """A word in a shell's quotes; one that ends in a reference in those that let the shell fill it in."""
    head, dollar, name = word.rpartition("$")
    if not dollar or name not in names or (head and not head.endswith("=")):
        return shlex.quote(word)
    return f'{shlex.quote(head) if head else ""}"${name}"'


def out_of_sight(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """(Arguments without secrets, the variable that hands the true ones to `optimize.engine.serve` if they differ)."""
    shown = [_hidden(argument) for argument in arguments]
    return shown, {} if shown == list(arguments) else {_ARGUMENTS: json.dumps(list(arguments))}


def _hidden(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f"{name}{equals}{masked(value, name)}" if equals else redact_all(argument)
