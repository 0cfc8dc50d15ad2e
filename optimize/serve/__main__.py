"""`python -m optimize.serve +study=chat`: serves the study's recommended row under supervision."""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig


def _serve(config: StudyConfig, config_yaml: str) -> int:
    from optimize.serve.session import run_server

    return run_server(config)


def main() -> None:
    run_verb(_serve)


if __name__ == "__main__":
    main()
