"""Where configuration files and the demo's files lie: in a checkout, in an installed package, or with the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError

_SOURCE = Path(__file__).resolve().parents[2]
"""The folder that holds the package `optimize`: the root of a checkout, or an environment's site-packages."""
_INSTALLED = _SOURCE / "optimize" / "conf"  # setup.py puts it there; a checkout has the one source at its root
CONF = _INSTALLED if _INSTALLED.is_dir() else _SOURCE / "conf"
"""The project's own configuration files."""
_OPTION = re.compile(r"(?:--config-dir|-cd)(?:=(.*))?", re.DOTALL)


def split_config_dirs(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The folders that a command line names with `--config-dir`, and its other words.

    Raises:
        ConfigError: one of them is no folder.
    """
    folders, others, rest = [], [], iter(words)
    for word in rest:
        option = _OPTION.fullmatch(word)
        if option is None:
            others.append(word)
            continue
        name = option.group(1) if option.group(1) is not None else next(rest, "")
        if not name or not Path(name).expanduser().is_dir():
            raise ConfigError(f"--config-dir={name} is not a folder: give the one that holds study/, workload/, ...")
        folders.append(Path(name).expanduser())
    return folders, others


def user_folders(config_dirs: Sequence[Path] = ()) -> list[Path]:
    """The folders of the user's own configuration files, in the order in which they are searched."""
    folders = [folder.resolve() for folder in (*config_dirs, Path("conf")) if folder.is_dir()]
    return [folder for folder in dict.fromkeys(folders) if folder != CONF]


def refuse_ambiguous(words: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse a choice that is named on the command line and means two different files.

    Raises:
        ConfigError: the project and the user both have a file of that name.
    """
    for word in words:
        group, _, choices = word.lstrip("+").partition("=")
        group = group.partition("@")[0]
        for choice in re.findall(r"[\w-]+", choices) if (CONF / group).is_dir() else []:
            own = CONF / group / f"{choice}.yaml"
            for other in (folder / group / f"{choice}.yaml" for folder in folders):
                if own.is_file() and other.is_file() and own.read_bytes() != other.read_bytes():
                    raise ConfigError(f"{group}={choice} names {other} and a file of this project: rename yours")


def with_installed_files(config: StudyConfig) -> StudyConfig:
    """The configuration with the paths of this project's files leading to them where the current folder has none."""
    model, workload, random, package = config.model, config.workload, config.model.random, config.model.package
    if random is not None:
        random = replace(random, tokenizer=_installed(random.tokenizer))
    if package is not None:
        package = replace(package, requirements=_installed(package.requirements))
    return replace(
        config,
        model=replace(model, path=_installed(model.path), random=random, package=package),
        workload=replace(workload, path=_all_installed(workload.path)),
    )


def _all_installed(path: Any) -> Any:
    return [_installed(str(part)) for part in path] if isinstance(path, list) else _installed(str(path))


def _installed(path: str) -> str:
    here = Path(path)
    installed = next((f / path for f in (_SOURCE, CONF.parent) if (f / path).exists()), here)
    is_own = not here.is_absolute() and here.parts[:1] in (("demo",), ("requirements",))
    return str(installed) if is_own and not here.exists() else path
