"""`python -m optimize.export +study=chat`: a study in one file, for another machine or for other programs."""

from __future__ import annotations

from pathlib import Path

from optimize.cli import complain_of, run_verb
from optimize.config.archive import LLM_D
from optimize.config.schema import StudyConfig


def _export(config: StudyConfig, config_yaml: str) -> int:
    from optimize.archive.llm_d import write_reports
    from optimize.archive.writing import write_archive
    from optimize.files import check_writable
    from optimize.ledger import Ledger, study_folder
    from optimize.study.rows import stored_study

    study = stored_study(config)
    ledger = Ledger(study_folder(config.output_dir, config.study.name))
    settings, into = config.export, config.export.into
    key = "export.into" if into else "output_dir"
    if settings.format == LLM_D:
        folder = Path(into or Path(config.output_dir) / f"{config.study.name}.llm-d")
        check_writable(key, folder)
        reports = write_reports(study, ledger, settings, folder)
        print(f"{len(reports)} Benchmark Reports: {folder}")
    else:
        path = Path(into or Path(config.output_dir) / f"{config.study.name}.study.zip")
        check_writable(key, path.parent)
        manifest = write_archive(study, ledger, settings, path)
        print(f"{path} ({path.stat().st_size / 2**20:.2f} MiB, {len(manifest.files)} files, {_left_out(settings)})")
        print(f"elsewhere: python -m optimize.unpack unpack.archive={path.name}")
    return complain_of(ledger.damage.values())


def _left_out(settings: object) -> str:
    contents = {"prompts": "answers", "paths": "paths, host names and addresses"}
    absent = [words for name, words in contents.items() if not getattr(settings, name)]
    return f"without {', '.join(absent)}" if absent else "with answers, paths, host names and addresses"


def main() -> None:
    run_verb(_export)


if __name__ == "__main__":
    main()
