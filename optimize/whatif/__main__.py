"""`python -m optimize.whatif +study=chat constraints.p99_latency_s.max=1`: the decision under other terms."""

from __future__ import annotations

from optimize.cli import complain_of, run_verb
from optimize.config.schema import StudyConfig


def _whatif(config: StudyConfig, config_yaml: str) -> int:
    from optimize.whatif.session import ask

    return complain_of(ask(config, config_yaml))


def main() -> None:
    run_verb(_whatif)


if __name__ == "__main__":
    main()
