"""`python -m optimize.certify +study=chat`: certifies the study's recommended row under stress and faults."""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig


def _certify(config: StudyConfig, config_yaml: str) -> int:
    from optimize.certify.session import run_certification

    return run_certification(config, config_yaml)


def main() -> None:
    run_verb(_certify)


if __name__ == "__main__":
    main()
