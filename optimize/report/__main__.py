"""`python -m optimize.report +study=chat`: the report of a study, finished or still running."""

from __future__ import annotations

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError, closest
from optimize.redaction import redacted


def _report(config: StudyConfig, config_yaml: str) -> int:
    from optimize.files import check_sqlite
    from optimize.report.summary import write
    from optimize.study.lifecycle import stored_studies

    check_sqlite(config.tracking.storage, "studies")
    studies = {study.study_name: study for study in stored_studies(config.tracking.storage)}
    if config.study.name not in studies:
        hint = closest(config.study.name, list(studies)) if studies else "it holds none"
        raise ConfigError(
            f"{redacted(config.tracking.storage)} holds no study {config.study.name!r}; {hint}: run one first, "
            "e.g. python -m optimize +study=chat"
        )
    files = write(config, studies[config.study.name], list(studies.values()))
    print(f"report: {files[0]} ({files[0].stat().st_size / 2**20:.1f} MiB)   figures: {files[1]}")
    return 0


def main() -> None:
    run_verb(_report)


if __name__ == "__main__":
    main()
