"""The measured command in its parts, and the files that its flags name."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optimize.config.grammar import one_line, variable
from optimize.deploy.quoting import Variable, Word
from optimize.engine.flag_files import fingerprint, named_files, with_paths
from optimize.errors import ConfigError
from optimize.redaction import is_plain, is_secret, register, variable_of

_TOKEN = "--hf-token"  # a variable of its own does the same, out of sight of the machine's other users
_SET_BY_BUNDLE = ("--host=", "--port=", "--served-model-name=")
MODEL_IN_CONTAINER, FILES_IN_CONTAINER = "/model", "/files"
"""Where a model's folder is mounted, and where the files are that flags name."""


@dataclass(frozen=True)
class NamedFile:
    """A file or folder that a flag names.

    Attributes:
        path: Absolute path.
        in_container: Path at which a container mounts it.
        sha256: First digits of the hash of its contents.
    """

    path: str
    in_container: str
    sha256: str


@dataclass(frozen=True)
class ServeCommand:
    """The measured command in its parts.

    Attributes:
        environment: Its environment variables, without secrets.
        secrets: Variables that stand for secrets, in the environment and in flags.
        model: Folder or Hugging Face id.
        arguments: vLLM's flags, without host, port and served name; paths are absolute.
        container_arguments: The same with the paths of a container.
        files: The files and folders that the flags name.
    """

    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    model: str
    arguments: tuple[Word, ...]
    container_arguments: tuple[Word, ...]
    files: tuple[NamedFile, ...]

    @property
    def local(self) -> bool:
        """Whether the model is a local folder."""
        return Path(self.model).is_dir()

    def number(self, flag: str) -> int:
        """The value of a numeric flag; 1 if it is not set."""
        texts = [str(word[0]) for word in self.arguments if len(word) == 1]
        values = [text.partition("=")[2] for text in texts if text.startswith(f"--{flag}=")]
        return int(values[-1]) if values and values[-1].isdigit() else 1


def parse_command(command: str) -> ServeCommand:
    """Parse a deploy command, `VAR=value vllm serve MODEL --flag=value`.

    Raises:
        ConfigError: it is not such a command, or holds what no file can quote.
    """
    words = shlex.split(command)
    if "vllm" not in words or words.index("vllm") + 2 >= len(words):
        raise ConfigError(f"the row has no command to deploy ({command!r}): deploy a study of vLLM engines")
    at = words.index("vllm")
    environment = {variable(name): value for name, _, value in (word.partition("=") for word in words[:at])}
    environment.pop("VLLM_SERVER_DEV_MODE", None)
    model, *flags = map(one_line, words[at + 2 :])
    raw = with_paths([flag for flag in flags if not flag.startswith(_SET_BY_BUNDLE)], os.path.abspath)
    files = _files(raw)
    secrets = _secrets(environment, raw)
    raw = [argument for argument in raw if not argument.startswith(f"{_TOKEN}=")]
    placed = with_paths(raw, {file.path: file.in_container for file in files}.__getitem__)
    return ServeCommand(
        {name: value for name, value in environment.items() if name not in secrets},
        tuple(secrets),
        str(Path(model).resolve()) if Path(model).is_dir() else model,
        tuple(_word(argument, secrets) for argument in raw),
        tuple(_word(argument, secrets) for argument in placed),
        files,
    )


def _secrets(environment: Mapping[str, str], arguments: Sequence[str]) -> dict[str, str]:
    """Variable -> the secret that it stands for, or the reference `$NAME` that was recorded in its place."""
    flags = [argument.partition("=") for argument in arguments if argument.startswith("--")]
    values = {variable_of(flag): value for flag, _, value in flags if value and is_secret(flag, value)}
    values |= {name: value for name, value in environment.items() if value == f"${name}" or is_secret(name, value)}
    for name, value in values.items():
        if value != f"${name}":
            register(value, f"${variable(name)}")  # the row's own record shows it too
    return values


def _word(argument: str, secrets: Mapping[str, str]) -> Word:
    """The argument with variables in the place of secrets and of references to them."""
    flag, _, value = argument.partition("=")
    name = variable_of(flag)
    if argument.startswith("--") and value and secrets.get(name) == value:
        return (f"{flag}=", Variable(name))
    long = {value: name for name, value in secrets.items() if not is_plain(value)}
    names = long | {f"${name}": name for name in secrets}
    texts = sorted(map(re.escape, names), key=len, reverse=True)
    parts = re.split(rf"((?:{'|'.join(texts)})(?!\w))", argument) if names else [argument]
    return tuple(Variable(names[part]) if part in names else part for part in parts if part) or ("",)


def _files(arguments: Sequence[str]) -> tuple[NamedFile, ...]:
    """The files that flags name; the number in front keeps those of one name apart in a container."""
    files = []
    for number, path in enumerate(named_files(arguments), 1):
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).name)
        files.append(NamedFile(path, f"{FILES_IN_CONTAINER}/{number}-{name}", fingerprint(path)))
    return tuple(files)


def check_files(command: str, files: Sequence[NamedFile], measured: Mapping[str, str]) -> None:
    """See that the files which the flags of a command name are those that were measured.

    Args:
        command: The deploy command.
        files: What its flags name on this disk.
        measured: Path as it stands in a flag -> the hash that the study took; empty for studies that took none.

    Raises:
        ConfigError: one is missing or has changed.
    """
    present = {file.path: file.sha256 for file in files}
    words = " ".join(shlex.split(command))
    for path, sha256 in measured.items():
        absolute = os.path.abspath(path)
        if absolute not in present and (path in words or json.dumps(path)[1:-1] in words):
            raise ConfigError(
                f"the row's flags name {path}, which is not at {absolute}: put it there, or run this command in the "
                "folder that the study ran in"
            )
        if present.get(absolute, sha256) != sha256:
            raise ConfigError(
                f"the row's flags name {path}, which has changed since it was measured ({sha256}, now "
                f"{present[absolute]}): restore it, or measure the row anew"
            )
