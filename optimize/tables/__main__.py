"""`python -m optimize.tables batch_size +study=chat 'tables.batch_size=[4,16,64]'`: the measured effect of a knob."""

from __future__ import annotations

from optimize.cli import run_named
from optimize.config.schema import StudyConfig

NAMES = ("quantization", "batch_size", "beam_size", "interactions")


def _table(name: str, config: StudyConfig, config_yaml: str) -> int:
    from optimize.tables.session import run_table

    return run_table(name, config, config_yaml)


def main() -> None:
    run_named(_table, NAMES, "table")


if __name__ == "__main__":
    main()
