"""`python -m optimize.recommend`: the matrix over all studies tracked so far."""

from __future__ import annotations

from pathlib import Path

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError, redacted


def _recommend(config: StudyConfig, config_yaml: str) -> int:
    from optimize.files import check_sqlite
    from optimize.report.matrix import to_markdown, write_matrix
    from optimize.report.terminal import in_words
    from optimize.study.confirmation import recommendation
    from optimize.study.lifecycle import stored_studies
    from optimize.study.rows import matrix_rows, signature_warning

    check_sqlite(config.tracking.storage, "studies")
    studies = stored_studies(config.tracking.storage)
    rows = matrix_rows(studies)
    if not rows:
        raise ConfigError(
            f"{redacted(config.tracking.storage)} holds no study with a recommendation: run one first, "
            "e.g. scripts/optimize +study=chat"
        )
    by_name = {study.study_name: study for study in studies}
    for row in rows:
        found = recommendation(by_name[row.study])
        assert found is not None
        print(in_words(by_name[row.study], found))
        if mixed := signature_warning(by_name[row.study]):
            print(mixed)
    paths = write_matrix(rows, Path(config.output_dir))
    print(f"\n{to_markdown(rows)}\nwritten: {', '.join(str(p) for p in paths)}")
    return 0


def main() -> None:
    run_verb(_recommend)


if __name__ == "__main__":
    main()
