"""`python -m optimize.measure +study=chat +at.batch_size=64 repeats=3`: one configuration, measured by hand."""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig


def _measure(config: StudyConfig, config_yaml: str) -> int:
    from optimize.measure.session import run_measurement

    return run_measurement(config, config_yaml)


def main() -> None:
    run_verb(_measure)


if __name__ == "__main__":
    main()
