"""`--help` of a command: what it does, and its own settings with their meaning."""

from __future__ import annotations

import importlib

import pytest

from optimize.config.command_help import command_help
from tests.conftest import VERBS, Run


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_but_the_study_has_help_of_its_own(verb: str) -> None:
    text = command_help(VERBS[verb], importlib.import_module(VERBS[verb]).__doc__ or "")
    assert text == "" if verb == "optimize" else text.startswith(f"python -m {verb} ") or f"{verb}:" in text
    assert max(map(len, text.splitlines()), default=0) <= 120


def test_help_shows_the_settings_of_the_command_with_defaults_and_meaning(optimize: Run) -> None:
    done = optimize(["+study=chat", "--help"], verb="optimize.guard")
    assert done.returncode == 0 and done.stdout.startswith("python -m optimize.guard +study=chat ")
    assert "  guard.margin=0.05\n      Share by which each objective may be worse.\n" in done.stdout
    assert "More: docs/guard.md." in done.stdout
    assert "serve.canary.share=" in command_help("optimize.serve.__main__", "Serves.")
