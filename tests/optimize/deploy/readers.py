"""Readers of the bundle's files, each by its program's documentation, and a `vllm` that prints its arguments."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FAKE = """#!/usr/bin/env python3
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "environment": dict(os.environ)}))
"""
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "s": " "}


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
    said = json.loads(done.stdout)
    return Call(said["argv"], said["environment"])


def systemd_settings(unit: str) -> dict[str, str]:
    """The settings of a unit, each once; no comment, no section, no continued line (systemd.syntax(7))."""
    lines = [line for line in unit.splitlines() if line and line[0] not in "#;["]
    assert not any(line.endswith("\\") for line in lines)
    pairs = [(name, value.strip()) for name, _, value in (line.partition("=") for line in lines)]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def systemd_text(value: str) -> str:
    """A value with its specifiers: "%%" is a per cent sign, and any other would be replaced (systemd.unit(5))."""
    assert re.fullmatch(r"(?:[^%]|%%)*", value), value
    return value.replace("%%", "%")


def systemd_command(value: str) -> list[str]:
    """The words of ExecStart= with the prefix ":", which turns off variables (systemd.service(5))."""
    assert value.startswith(":")
    words = re.findall(r'"((?:[^"\\]|\\.)*)"(?:\s|$)|([^\s"\'\\]+)', value[1:])
    return [systemd_text(re.sub(r"\\(.)", lambda m: _ESCAPES[m[1]], quoted) or plain) for quoted, plain in words]


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
    deployment, _ = yaml.safe_load_all(text)
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
