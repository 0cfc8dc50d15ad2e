"""One run of `optimize.drift`: a row of a study beside what a server has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from optimize.config.schema import StudyConfig
from optimize.drift.claims import claims_of
from optimize.drift.judgement import READINGS_LEAST, judge
from optimize.drift.reference import reference_of
from optimize.drift.report import busy, to_json, to_markdown
from optimize.drift.sources import MINUTE_S, check_address, readings_of
from optimize.engine.traffic import Traffic, record_files
from optimize.errors import ConfigError
from optimize.files import write_files
from optimize.ledger import study_folder

HOLDS, DRIFTED, TOO_EARLY = 0, 1, 3
_DAY_S = 86400.0


def run_drift(config: StudyConfig) -> int:
    """Print and write whether the row's figures still hold for what a server sees.

    Returns:
        0 where they do, 1 where they do not, 3 where there are too few readings to say.

    Raises:
        ConfigError: bad input.
    """
    settings, name = config.drift, config.study.name
    check_address(settings)
    reference = reference_of(config)
    readings = readings_of(settings, record_files(study_folder(config.output_dir, f"serve-{name}")), name)
    claims = claims_of(reference, edges_in(readings), settings.margin)
    if not claims:
        raise ConfigError(f"study {name!r} has stored nothing that the server's metrics can be compared with")
    verdicts = judge(claims, readings, settings.alarm_days * _DAY_S / MINUTE_S, settings.together)
    text = to_markdown(reference, verdicts, readings, settings.alarm_days)
    folder = study_folder(config.output_dir, name) / "report"
    paths = write_files({"drift.md": text, "drift.json": to_json(reference, verdicts, readings)}, folder)
    print(f"{text}\nwritten: {', '.join(map(str, paths))}")
    if not all(verdict.holds for verdict in verdicts):
        return DRIFTED
    return HOLDS if busy(readings) >= READINGS_LEAST else TOO_EARLY


def edges_in(readings: Sequence[Traffic]) -> Mapping[str, Sequence[float]]:
    """Quantity -> upper edges of the finite buckets that all readings have."""
    edges: dict[str, set[float]] = {}
    for reading in readings:
        for name, histogram in reading.histograms.items():
            edges[name] = edges.get(name, set(histogram.below)) & set(histogram.below)
    return {name: sorted(edge for edge in common if math.isfinite(edge)) for name, common in edges.items()}
