"""`python -m optimize.recommend`: the matrix over all studies so far."""

from __future__ import annotations

from pathlib import Path

from optimize.cli import complain_of, run_verb
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.redaction import redacted


def _recommend(config: StudyConfig, config_yaml: str) -> int:
    from optimize.databases import check_sqlite
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
        if caution := signature_warning(study):
            print(caution)
    paths = write_matrix(rows, Path(config.output_dir))
    print(f"\n{to_markdown(rows)}\nwritten: {', '.join(str(p) for p in paths)}")
    return code


def main() -> None:
    run_verb(_recommend)


if __name__ == "__main__":
    main()
