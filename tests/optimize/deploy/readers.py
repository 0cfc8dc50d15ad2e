"""Readers of the bundle's files, programs or their documented rules, and a `vllm` that prints its arguments."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

_FAKE = """#!/usr/bin/env python3
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "environment": dict(os.environ)}))
"""


@dataclass(frozen=True)
class Call:
    """How the server was called: its arguments after `serve`, and its environment."""

    argv: Sequence[str]
    environment: Mapping[str, str]


def fake_program(folder: Path, name: str) -> Path:
    """A program that prints its arguments and its environment."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(_FAKE)
    path.chmod(0o755)
    return path


def called(command: Sequence[str], programs: Path, folder: Path, **variables: str) -> Call:
    """Run a command in a folder, with a `vllm` from another, and read what that prints."""
    env = {"PATH": f"{programs}:/usr/bin:/bin", "VLLM_API_KEY": "k", **variables}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    return Call(answer["argv"], answer["environment"])


def program(name: str) -> str:
    """Path of a program that reads files of a bundle."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: requirements/debian.txt names its package")
    return path


def systemd_view(unit: Path) -> dict[str, list[str]]:
    """Setting -> its values as systemd itself has read them; no word of complaint about the unit."""
    verify = [program("systemd-analyze"), "verify", str(unit)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    env = {**os.environ, "SYSTEMD_LOG_LEVEL": "debug"}
    dump = subprocess.run(verify, env=env, capture_output=True, text=True, check=True)
    view: dict[str, list[str]] = {}
    for line in f"{dump.stdout}\n{dump.stderr}".splitlines():
        name, colon, value = line.strip().partition(": ")
        if colon and line.startswith("\t"):
            view.setdefault(name, []).append(value)
    return view


def systemd_words(command_line: str) -> list[str]:
    """The words of a command line as systemd prints it: bare, or in double quotes with backslashes as escapes."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', command_line)
    return [bare or re.sub(r"\\(.)", r"\1", quoted) for quoted, bare in words]


def compose_text(value: Any, variables: Mapping[str, str] | None = None) -> Any:
    """A value of a Compose file after its interpolation (Compose's reference, "Interpolation")."""
    if isinstance(value, dict):
        return {key: compose_text(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [compose_text(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        name = match[2]
        assert name and name in (variables or {}), f"Compose would replace {match[0]!r}"
        return (variables or {})[name]

    return re.sub(r"\$(?:(\$)|\{([A-Za-z_]\w*)(?::\?[^}]*)?\}|)", replaced, value)


def compose_service(text: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The server of a Compose file, interpolated."""
    service: dict[str, Any] = compose_text(yaml.safe_load(text), variables)["services"]["vllm"]
    return service


def kubernetes_text(value: str, variables: Mapping[str, str]) -> str:
    """A value of `args` or `env` as the kubelet expands it; unknown variables stay (the API's field `args`)."""

    def replaced(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replaced, value)


def kubernetes_container(text: str) -> dict[str, Any]:
    """The server's container in a manifest."""
    deployment, *_ = yaml.safe_load_all(text)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def kubernetes_call(text: str, secrets: Mapping[str, str] | None = None) -> Call:
    """Arguments and environment of a manifest's container."""
    container, variables = kubernetes_container(text), dict[str, str]()
    for entry in container["env"]:
        if "value" in entry:
            variables[entry["name"]] = kubernetes_text(entry["value"], variables)
        elif secrets and entry["valueFrom"]["secretKeyRef"]["key"] in secrets:
            variables[entry["name"]] = secrets[entry["valueFrom"]["secretKeyRef"]["key"]]
    return Call([kubernetes_text(argument, variables) for argument in container["args"]], variables)
