"""`python -m optimize.deploy +study=chat`: writes the bundle of a study's row."""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig


def _deploy(config: StudyConfig, config_yaml: str) -> int:
    from optimize.deploy.bundle import deploy

    return deploy(config)


def main() -> None:
    run_verb(_deploy)


if __name__ == "__main__":
    main()
