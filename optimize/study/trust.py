"""Studies of somebody else's: they can be read, and run no engine until their owner here says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError

if TYPE_CHECKING:
    import optuna

UNPACKED = "unpacked"
"""User attribute of a study that came from an archive: true, or `HALF`."""
HALF = "half"
"""Value of the attribute while the study is being added."""


def check_trusted(study: optuna.Study, config: StudyConfig) -> None:
    """Refuse to run engines with the settings of a study that came from an archive.

    A flag such as trust_remote_code, or a variable such as LD_PRELOAD, makes an engine run what somebody else wrote.

    Raises:
        ConfigError: the study came from an archive, and `unpack.trust` is off.
    """
    if study.user_attrs.get(UNPACKED) and not config.unpack.trust:
        raise ConfigError(
            f"study {study.study_name!r} came from an archive, and an engine with its settings could run code of "
            "somebody else's: look at them (python -m optimize.report), and add unpack.trust=true if you trust them"
        )


def trusting(config: StudyConfig) -> list[str]:
    """The words that hand the trust in archives on to a command of a study."""
    return ["unpack.trust=true"] if config.unpack.trust else []
