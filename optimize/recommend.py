"""`python -m optimize.recommend`: the matrix over all studies so far, or one configuration for a mix of traffic."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.cli import complain_of, run_verb
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError, OptimizeError
from optimize.redaction import redacted

if TYPE_CHECKING:
    from optimize.study.mix import StudiedTraffic


def _recommend(config: StudyConfig, config_yaml: str) -> int:
    return recommend_for_mix(config) if config.mix else _matrix(config)


def _matrix(config: StudyConfig) -> int:
    from optimize.databases import check_sqlite
    from optimize.report.commands import deployment_line
    from optimize.report.matrix import to_markdown, write_matrix
    from optimize.report.terminal import in_words
    from optimize.study.confirmation import recommendation
    from optimize.study.lifecycle import stored_studies
    from optimize.study.rows import matrix_rows, signature_warning

    check_sqlite(config.tracking.storage, "studies")
    damage: list[str] = []
    studies = stored_studies(config.tracking.storage, damage.append)
    rows = matrix_rows(studies)
    code = complain_of(damage)
    if not rows:
        raise ConfigError(
            f"{redacted(config.tracking.storage)} holds no study with a recommendation: run one first, "
            "e.g. python -m optimize +study=chat"
        )
    by_name = {study.study_name: study for study in studies}
    for row in rows:
        study = by_name[row.study]
        final = recommendation(study)
        assert final is not None  # it has a row
        print(in_words(study, final))
        print(deployment_line(row.config, _words(config, row.study)), end="")
        if caution := signature_warning(study):
            print(caution)
    paths = write_matrix(rows, Path(config.output_dir))
    print(f"\n{to_markdown(rows)}\nwritten: {', '.join(str(p) for p in paths)}")
    return code


def _in_a_process(words: Sequence[str]) -> int:
    return subprocess.call([sys.executable, "-m", "optimize", *words])


def recommend_for_mix(config: StudyConfig, run: Callable[[Sequence[str]], int] = _in_a_process) -> int:
    """Print and write the one configuration that gives up least over `config.mix`.

    Args:
        config: The configuration.
        run: Runs a study's command with these overrides; returns its exit code.

    Raises:
        ConfigError: studies that cannot be compared, or that have no configuration in common; one that is to measure
            what it lacks came from an archive that is not trusted.
        OptimizeError: a study that was to measure what it lacks has failed.
    """
    from optimize.decision.mix import compromises
    from optimize.files import write_files
    from optimize.report.mix import lack_in_words, to_json, to_markdown
    from optimize.study.mix import lacks

    traffic = _traffic(config)
    if config.mix_measure:
        _measure_lacks(config, traffic, run)
        traffic = _traffic(config)
    every = compromises(traffic)
    if not every:
        raise ConfigError(
            f"the studies {', '.join(config.mix)} have measured no configuration in common that keeps the constraints "
            "of all: mix_measure=true measures each one's recommendation in the others"
        )
    text = to_markdown(traffic, every)
    paths = write_files({"mix.md": text, "mix.json": to_json(traffic, every)}, Path(config.output_dir))
    print(text)
    if missing := lacks(traffic):
        lines = [lack_in_words(lack, _words(config, lack.traffic.name)) for lack in missing]
        print("\n".join([*lines, "mix_measure=true has these studies measure it, which may lower the cost\n"]))
    print(f"written: {', '.join(str(p) for p in paths)}")
    return 0


def _traffic(config: StudyConfig) -> Sequence[StudiedTraffic]:
    from optimize.databases import check_sqlite
    from optimize.study.lifecycle import stored_studies
    from optimize.study.mix import traffic_of

    storage = config.tracking.storage
    check_sqlite(storage, "studies")
    return traffic_of(config.mix, stored_studies(storage), redacted(storage))


def _words(config: StudyConfig, name: str) -> list[str]:
    """Overrides of a study's own command, as far as its folder has them."""
    from optimize.ledger import Ledger, study_folder

    return Ledger(study_folder(config.output_dir, name)).overrides() or [f"+study={name}"]


def _measure_lacks(
    config: StudyConfig, traffic: Sequence[StudiedTraffic], run: Callable[[Sequence[str]], int]
) -> None:  # fmt: skip
    from optimize.study.mix import lacks, queue_lacks
    from optimize.study.trust import check_trusted, trusting

    missing = lacks(traffic)
    for lack in missing:  # an archive's words may name code to run, and their own trust
        check_trusted(lack.traffic.study, config)
    trials: Mapping[str, int] = queue_lacks(missing)
    for name, count in trials.items():
        words = [*_words(config, name), f"study.trials={count}", *trusting(config)]
        if code := run(words):
            raise OptimizeError(f"study {name} ended with exit code {code}: the same command goes on from here")


def main() -> None:
    run_verb(_recommend)


if __name__ == "__main__":
    main()
