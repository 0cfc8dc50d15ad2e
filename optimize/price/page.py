"""The page on prices, and its figures for machines."""

from __future__ import annotations

import json

from optimize.config.deploy import Hardware
from optimize.config.schema import StudyConfig
from optimize.files import write_files
from optimize.ledger import study_folder
from optimize.price import estimate, fleet
from optimize.study.capacity import required_capacity
from optimize.study.rows import requested_row

_FLEET = "fleet.json"


def price(config: StudyConfig) -> int:
    """Print what the row that the configuration names costs on each machine, and write it beside the study's report.

    Returns:
        0.

    Raises:
        ConfigError: bad input.
    """
    machines = compared(config)
    estimate.check_prices(machines)
    row = requested_row(config)
    lines = estimate.price_lines(row, machines, config.price.factors)
    texts = {
        "price.md": estimate.to_markdown(row, lines),
        "price.json": json.dumps([line.to_dict() for line in lines], indent=1),
    }
    ranked: list[fleet.Fleet] = []
    if (rate_per_s := config.price.rate_per_s or config.deploy.rate_per_s) is not None:
        required_capacity(row, "price.rate_per_s" if config.price.rate_per_s else "deploy.rate_per_s")
        ranked = fleet.fleets(rate_per_s, lines, config.deploy.autoscale.load_share)
        texts["price.md"] += f"\n{fleet.to_markdown(rate_per_s, ranked)}"
    texts[_FLEET] = json.dumps([one.to_dict() for one in ranked], indent=1)  # empties that of an earlier rate
    paths = write_files(texts, study_folder(config.output_dir, config.study.name) / "report")
    print(f"{texts['price.md']}\nwritten: {', '.join(str(p) for p in paths)}")
    return 0


def compared(config: StudyConfig) -> dict[str, Hardware]:
    """The hardware that is compared, by name."""
    machines = dict(config.instances)
    if config.hardware.hourly_usd is not None:
        machines[config.hardware.name] = config.hardware
    return machines
