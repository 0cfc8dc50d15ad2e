"""Which machines a study may be measured on: those of one class, for figures of different hardware are not ranked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimize.errors import ConfigError
from optimize.plan import Plan


def machine_class(plan: Plan) -> str:
    """What all machines of a study have in common: the name they were given, else their description."""
    return plan.config.hardware.machine_class or plan.signature["machine"]


def check_machine(study: str, known: Mapping[str, Any], plan: Plan) -> None:
    """Refuse to go on with a study on other hardware.

    Args:
        study: Its name.
        known: What it says about itself.
        plan: Of this session.

    Raises:
        ConfigError: its trials ran on machines of another class.
    """
    theirs = known.get("machine_class") or known.get("signature", {}).get("machine")
    if theirs is not None and theirs != machine_class(plan):
        raise ConfigError(
            f"study {study!r} was measured on {theirs!r}, and this is {machine_class(plan)!r}: figures of different "
            "hardware are not ranked together; choose another study.name, or, if the two are alike, say so with "
            f"hardware.machine_class={theirs!r}"
        )
