"""`python -m optimize.report +study=chat`: the report of a study, finished or still running."""

from __future__ import annotations

from optimize.cli import complain_of, run_verb
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError, closest
from optimize.redaction import redacted


def _report(config: StudyConfig, config_yaml: str) -> int:
    from optimize.databases import check_sqlite
    from optimize.ledger import Ledger, study_folder
    from optimize.report.summary import write
    from optimize.study.lifecycle import stored_studies
    from optimize.study.restoration import restore

    check_sqlite(config.tracking.storage, "studies")
    damage: list[str] = []
    studies = {study.study_name: study for study in stored_studies(config.tracking.storage, damage.append)}
    if config.study.name not in studies:
        complain_of(damage)
        hint = closest(config.study.name, list(studies)) if studies else "it holds none"
        raise ConfigError(
            f"{redacted(config.tracking.storage)} holds no study {config.study.name!r}; {hint}: run one first, "
            "e.g. python -m optimize +study=chat"
        )
    study = studies[config.study.name]
    ledger = Ledger(study_folder(config.output_dir, config.study.name))
    for line in restore(study, ledger):
        print(line)
    files = write(config, study, list(studies.values()), ledger=ledger)
    print(f"report: {files[0]} ({files[0].stat().st_size / 2**20:.1f} MiB)   figures: {files[1]}")
    return complain_of([*damage, *ledger.damage.values()])


def main() -> None:
    run_verb(_report)


if __name__ == "__main__":
    main()
