"""Studies that fit one model: `study/<model>/<study>.yaml` takes the place of `study/<study>.yaml` for that model.

A model that answers a hundred times more slowly, or has other prompts, needs another workload, other limits and fewer
trials. Hydra's defaults cannot say so: an entry that depends on another group's choice may not override a third one's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_STUDY = re.compile(r"(\+{1,2}study)=([\w-]+)")


def specialized(words: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The words of a command line, with the study that fits the model which they name.

    Args:
        words: Overrides, e.g. `+study=chat model=smollm2`.
        folders: Those that hold configuration files, the project's own and the user's.
    """
    models = [word.removeprefix("model=") for word in words if word.startswith("model=")]
    if len(models) != 1 or not re.fullmatch(r"[\w-]+", models[0]):
        return list(words)
    return [_fitting(word, models[0], folders) for word in words]


def _fitting(word: str, model: str, folders: Sequence[Path]) -> str:
    match = _STUDY.fullmatch(word)
    if match is None or not any((folder / "study" / model / f"{match[2]}.yaml").is_file() for folder in folders):
        return word
    return f"{match[1]}={model}/{match[2]}"
