"""Which MLflow run mirrors a folder: `mlflow.json`, beside what is mirrored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from optimize.config.schema import Tracking
from optimize.errors import DamagedFile
from optimize.files import read_json, reading, write_atomically
from optimize.redaction import redacted

FILE = "mlflow.json"
_SQLITE, _OUTPUT = "sqlite:///", "sqlite:///${output_dir}/"
_REMEDY = "python -m optimize.sync mirrors what belongs to it once more, and writes it anew"


@dataclass(frozen=True, slots=True)
class RunState:
    """The run of a folder.

    Attributes:
        run_id: Its id.
        complete: Whether everything has been mirrored.
    """

    run_id: str
    complete: bool


class RunStates:
    """Reads and writes the states of a study's folders, for one tracking store and experiment.

    A database within the output folder is named by its place there, so that the folder can be moved.

    Args:
        tracking: The store and the experiment.
        output: The output folder.
    """

    def __init__(self, tracking: Tracking, output: Path) -> None:
        self._uri, self._experiment = redacted(tracking.uri), tracking.experiment
        self._address = _address(self._uri, output.absolute())

    def read(self, folder: Path) -> RunState | None:
        """The run of a folder; None if it has none in this store, or its file is damaged."""
        path = folder / FILE
        try:
            raw = read_json(path, _REMEDY)
            with reading(path, _REMEDY):
                return RunState(str(raw["run_id"]), bool(raw["complete"])) if raw and self._is_own(raw) else None
        except DamagedFile:
            return None

    def write(self, folder: Path, run_id: str, complete: bool) -> None:
        state = {"uri": self._address, "experiment": self._experiment, "run_id": run_id, "complete": complete}
        write_atomically(folder / FILE, json.dumps(state))

    def _is_own(self, raw: dict[str, object]) -> bool:
        if raw.get("experiment", self._experiment) != self._experiment:
            return False
        return raw["uri"] in (self._address, self._uri) or self._has_moved(str(raw["uri"]))

    def _has_moved(self, uri: str) -> bool:
        """Whether an earlier version stored the address of this database before its folder was moved."""
        former = Path(uri.removeprefix(_SQLITE))
        is_here = self._address == f"{_OUTPUT}{former.name}"
        return is_here and uri.startswith(_SQLITE) and not former.exists()


def _address(uri: str, output: Path) -> str:
    if not uri.startswith(_SQLITE):
        return uri
    path = Path(uri.removeprefix(_SQLITE)).absolute()
    inside = path.is_relative_to(output)
    return f"{_OUTPUT}{path.relative_to(output)}" if inside else f"{_SQLITE}{path}"
