"""`python -m optimize +study=chat`: measure, search, recommend."""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.command_words import words_of
from optimize.config.compose import default_study
from optimize.config.schema import StudyConfig


def _optimize(config: StudyConfig, config_yaml: str) -> int:
    if line := default_study(config, words_of(config_yaml)):
        print(line, flush=True)
    from optimize.driver.run import run_study  # here, so that a typo is answered before anything heavy is imported

    return run_study(config, config_yaml)


def main() -> None:
    run_verb(_optimize)


if __name__ == "__main__":
    main()
