"""`python -m optimize.price +study=chat`: the cost of a row's throughput on the instances of `conf/hardware/`."""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig


def _price(config: StudyConfig, config_yaml: str) -> int:
    from optimize.price.page import price

    return price(config)


def main() -> None:
    run_verb(_price)


if __name__ == "__main__":
    main()
