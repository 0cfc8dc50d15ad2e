"""`python -m optimize.unpack unpack.archive=chat.study.zip`: the study of an archive, for every other command."""

from __future__ import annotations

from pathlib import Path

from optimize.cli import run_verb
from optimize.config.command_words import words_of
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError

_PLACE = ("output_dir=", "tracking", "--config-dir")
"""Words of the command that say where the study is now."""


def _unpack(config: StudyConfig, config_yaml: str) -> int:
    from optimize.archive.reading import Archive
    from optimize.archive.unpacking import unpack
    from optimize.databases import check_sqlite
    from optimize.files import check_writable
    from optimize.report.commands import further_command
    from optimize.report.terminal import counts_of, counts_text

    settings = config.unpack
    if settings.archive is None:
        raise ConfigError("unpack.archive names no file: give one that python -m optimize.export has written")
    check_sqlite(config.tracking.storage, "studies")
    check_writable("output_dir", Path(config.output_dir))
    with Archive(Path(settings.archive), settings.max_gib * 2**30) as archive:
        name = settings.name or archive.manifest.study
        study = unpack(archive, config.tracking.storage, config.output_dir, name)
    print(f"study {name}: {counts_text(counts_of(study))}")
    print("Its figures and commands are the word of whoever wrote the archive.")
    place = [word for word in words_of(config_yaml) if word.startswith(_PLACE)]
    print(f"next: {further_command('optimize.report', place, f'study.name={name}')}")
    return 0


def main() -> None:
    run_verb(_unpack)


if __name__ == "__main__":
    main()
