"""Which machines a study may be measured on: those of one class, for figures of different hardware are not ranked."""

from __future__ import annotations

from optimize.errors import ConfigError
from optimize.study.info import StudyInfo


def check_machine(study: str, stored: StudyInfo, current: StudyInfo) -> None:
    """Refuse to go on with a study on other hardware.

    Args:
        study: Name of the study.
        stored: Its description as stored by earlier sessions.
        current: Its description in this session.

    Raises:
        ConfigError: its trials ran on machines of another class.
    """
    if stored.machines and stored.machines != current.machines:
        raise ConfigError(
            f"study {study!r} was measured on {stored.machines!r}, and this is {current.machines!r}: figures of "
            "different hardware are not ranked together; choose another study.name, or, if the two are alike, say so "
            f"with hardware.machine_class={stored.machines!r}"
        )
