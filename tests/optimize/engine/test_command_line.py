"""Deploy commands name the variables of secrets, and no command line of a process holds one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optimize.engine.base import EngineConfig, TrialConfig
from optimize.engine.base import RequestConfig as Request
from optimize.engine.command_line import out_of_sight, shell_line
from optimize.engine.process import ColdTree
from optimize.engine.vllm import VllmLauncher
from optimize.redaction import redact, references, register

SECRET = "Zq1-s3cret of 'mine'"


@pytest.fixture
def config() -> EngineConfig:
    register(SECRET, "$MY_SECRET")
    return EngineConfig("org/model", "fp16", (("revision", f"r-{SECRET}"), ("max_num_seqs", 8)))


def test_the_deploy_command_asks_for_secrets_by_variables(config: EngineConfig) -> None:
    launcher = VllmLauncher(flags={"hf_token": "short"}, env={"MY_TOKEN": SECRET, "A": "x $y"})
    command = launcher.deploy_command(config)
    variables = {name: value for name, _, value in (w.partition("=") for w in shlex.split(command)[:4])}
    assert variables == {"A": "x $y", "HF_TOKEN": "$HF_TOKEN", "MY_TOKEN": "$MY_TOKEN", "REVISION": "$REVISION"}
    assert references(variables) == ("HF_TOKEN", "MY_TOKEN", "REVISION")
    assert shlex.split(command)[4:] == [
        "vllm", "serve", "org/model", "--host=127.0.0.1", "--revision=$REVISION", "--max-num-seqs=8",
    ]  # fmt: skip


def test_a_shell_fills_in_the_references_of_a_deploy_command_and_nothing_else() -> None:
    show = "import os, sys; print(os.environ['MY_TOKEN'], os.environ['A'], sys.argv[1:])"
    env = {"A": "$MY_TOKEN $(echo x)", "MY_TOKEN": "$MY_TOKEN"}
    line = shell_line(env, [sys.executable, "-c", show, "--key=$MY_TOKEN", "$MY_TOKEN", "a$MY_TOKEN", "--b=$OTHER"])
    done = subprocess.run(
        ["bash", "-c", line], env={"MY_TOKEN": "a b", "PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert done.stdout.strip() == f"a b $MY_TOKEN $(echo x) {['--key=a b', 'a b', 'a$MY_TOKEN', '--b=$OTHER']}", (
        done.stderr
    )


def test_engines_get_their_secrets_out_of_sight(config: EngineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    def cold(command: list[str], env: dict[str, str], *_: Any) -> ColdTree:
        started.append((command, env))
        raise KeyboardInterrupt

    monkeypatch.setattr("optimize.engine.vllm.ColdTree", cold)
    launcher = VllmLauncher(flags={"hf_token": "short"}, env={"MY_TOKEN": SECRET}, start="cold")
    with pytest.raises(KeyboardInterrupt):
        launcher.launch(config, Path("log"))
    ((command, env),) = started
    assert "--revision=r-$MY_SECRET" in command
    assert redact(" ".join(command)) == " ".join(command) and "short" not in " ".join(command)
    assert (env["HF_TOKEN"], env["MY_TOKEN"]) == ("short", SECRET)
    assert f"--revision=r-{SECRET}" in json.loads(env["OPTIMIZE_ARGUMENTS"])


def test_a_command_line_without_secrets_stays_in_sight() -> None:
    assert out_of_sight(["model", "--max-num-seqs=8"]) == (["model", "--max-num-seqs=8"], {})
    assert out_of_sight(["model", "--ssl-key=abc"])[0] == ["model", "--ssl-key=***"]


def test_a_changed_secret_is_no_other_configuration() -> None:
    register("Zq2-yesterdays-token", "$MY_TOKEN")
    register("Zq3-todays-token", "$MY_TOKEN")
    engines = [
        EngineConfig("m", "fp16", (("revision", value),)) for value in ("Zq2-yesterdays-token", "Zq3-todays-token")
    ]
    assert engines[0].key == engines[1].key != EngineConfig("m", "fp16", (("revision", "main"),)).key
    assert TrialConfig(engines[0], Request()).shown() == TrialConfig(engines[1], Request()).shown()
