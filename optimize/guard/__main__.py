"""`python -m optimize.guard +study=chat guard.python=/opt/vllm-0.33/bin/python`: may this release go out?"""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig


def _guard(config: StudyConfig, config_yaml: str) -> int:
    from optimize.guard.session import run_guard

    return run_guard(config, config_yaml)


def main() -> None:
    run_verb(_guard)


if __name__ == "__main__":
    main()
