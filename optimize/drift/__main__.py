"""`python -m optimize.drift +study=chat`: whether a served engine still sees what its study was measured under."""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig


def _drift(config: StudyConfig, config_yaml: str) -> int:
    from optimize.drift.session import run_drift

    return run_drift(config)


def main() -> None:
    run_verb(_drift)


if __name__ == "__main__":
    main()
