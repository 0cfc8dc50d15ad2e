"""Commands that measure a configuration of a study again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from optimize.config.grammar import override_value

_BUDGET = ("study.fresh=", "study.trials=", "study.minutes=")
_NOT_REPEATED = (*_BUDGET, "study.name=", "output_dir=", "confirm.", "search.")


def repeated_words(overrides: Sequence[str]) -> list[str]:
    """The words of a study's command that a measurement shares with it; none where they name no study."""
    words = [word for word in overrides if not word.startswith(_NOT_REPEATED)]
    return words if any(word.startswith("+study=") for word in words) else []


def further_command(module: str, overrides: Sequence[str], *more: str) -> str:
    """A command about a study, by the words of the study's own.

    Args:
        module: What follows `python -m`.
        overrides: Words of the command that ran the study.
        more: Further words, in place of those that set the same keys.
    """
    replaced = (*_BUDGET, *(f"{word.partition('=')[0]}=" for word in more))
    return shlex.join(["python", "-m", module, *(w for w in overrides if not w.startswith(replaced)), *more])


def deployment_line(config: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """A line with the command that writes a row's bundle; empty where nothing can be deployed, as of a remote server.

    Args:
        config: The configuration of the row's trial.
        overrides: Words of the command that ran the study.
    """
    if not config.get("deploy_command"):
        return ""
    return f"  files for systemd, Compose and Kubernetes: {further_command('optimize.deploy', overrides)}\n"


def measure_command(words: Sequence[str], params: Mapping[str, Any], repeats: int = 3) -> str:
    """The command that measures a configuration by itself.

    Args:
        words: What `repeated_words` leaves.
        params: Knob -> value.
        repeats: How often it is measured, each time on a new engine.
    """
    at = [f"+at.{knob}={override_value(value)}" for knob, value in params.items()]
    return f"python -m optimize.measure {shlex.join([*words, *at, f'repeats={repeats}'])}"
