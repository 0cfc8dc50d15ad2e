"""`python -m optimize.price +study=chat`: the cost of a row's throughput on the instances of `conf/hardware/`."""

from __future__ import annotations

import json

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig


def _price(config: StudyConfig, config_yaml: str) -> int:
    from optimize.files import write_files
    from optimize.ledger import study_folder
    from optimize.price.estimate import check_prices, price_lines, to_markdown
    from optimize.study.rows import requested_row

    machines = dict(config.instances)
    if config.hardware.hourly_usd is not None:
        machines[config.hardware.name] = config.hardware
    check_prices(machines)
    row = requested_row(config)
    lines = price_lines(row, machines, config.price.factors)
    text = to_markdown(row, lines)
    folder = study_folder(config.output_dir, config.study.name) / "report"
    raw = json.dumps([line.to_dict() for line in lines], indent=1)
    paths = write_files({"price.md": text, "price.json": raw}, folder)
    print(f"{text}\nwritten: {', '.join(str(p) for p in paths)}")
    return 0


def main() -> None:
    run_verb(_price)


if __name__ == "__main__":
    main()
