"""Every file that commands read is cut, to half its size or to nothing: it is made again, or named and left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from optimize.entries import MARK
from optimize.files import PARTIAL
from tests.faults.session import Session
from tests.faults.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TRIAL, REPORT = "out/studies/smoke/trials/0000", "out/studies/smoke/report"
DERIVED = (
    f"{TRIAL}/trial.json", f"{TRIAL}/mlflow.json", "out/studies/smoke/about.json", "out/studies/smoke/config.yaml",
    "out/studies/smoke/mlflow.json", "out/studies/smoke/status.json", "out/studies/smoke/summary.json",
    f"{REPORT}/effects.json", f"{REPORT}/figures/.drawn.json", "cache/tokens/*/counts.json",
)  # fmt: skip
"""Files that the study's own command makes again."""
INPUTS = ("workload.jsonl", "out/optuna.db")
"""Files that hold what is nowhere else."""
RAW = (f"{TRIAL}/requests.parquet", f"{TRIAL}/telemetry.parquet")
"""Raw data of a trial: without them its figures are as good as before."""
READERS = ("optimize.report", "optimize.recommend", "optimize.sync")
UPLOADS = {f"optimize{os.sep}tracking{os.sep}{name}" for name in ("dashboard.py", "mlflow_mirror.py")}
"""Modules that pass files on without looking into them."""
_reads: list[tuple[str, str]] = []


def _on_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _reads and isinstance(arguments[0], str | os.PathLike):
        path, flags, frame = os.fspath(arguments[0]), arguments[2], sys._getframe(1)
        while frame.f_back and "optimize" not in Path(frame.f_code.co_filename).parts[-3:-1]:
            frame = frame.f_back
        if str(path).startswith(_reads[0][0]) and not flags & (os.O_WRONLY | os.O_RDWR):
            _reads.append((str(path), frame.f_code.co_filename))


sys.addaudithook(_on_open)


@contextmanager
def reads_of(study: Study) -> Iterator[set[str]]:
    """The names of a study's files that are read and looked into within."""
    names: set[str] = set()
    _reads.append((f"{study.folder}{os.sep}", ""))
    try:
        yield names
        paths = [path for path, reader in _reads[1:] if not any(reader.endswith(name) for name in UPLOADS)]
        names |= {os.path.basename(path) for path in paths if not path.endswith(PARTIAL)}
    finally:
        _reads.clear()


def cut(study: Study, pattern: str, empty: bool) -> Path:
    (path,) = study.folder.glob(pattern)
    assert path.stat().st_size > 1
    os.truncate(path, 0 if empty else path.stat().st_size // 2)
    return path


def lines_about(session: Session, path: Path) -> list[str]:
    """The lines for the user that name a file."""
    return [line for line in (session.out + session.err).splitlines() if str(path) in line]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path) -> Study:
    """A study that has ended."""
    study = Study(tmp_path_factory.mktemp("reads"), empty_mlflow_db)
    assert study.run().code == 0 and study.losses() == []
    return study


def test_every_file_that_is_looked_into_is_cut(study: Study) -> None:
    with reads_of(study) as names:
        assert [study.run(verb).code for verb in ("optimize", *READERS)] == [0, 0, 0, 0]
    assert names - {MARK, "manifest.json"} <= {Path(name).name for name in (*DERIVED, *RAW, *INPUTS)}
    assert len(names) > 5


def test_the_study_makes_again_what_was_cut(study: Study) -> None:
    paths = [cut(study, name, empty=place % 2 > 0) for place, name in enumerate(DERIVED)]
    for verb in READERS:
        assert study.run(verb).complaint() == "", verb
    session = study.run()
    assert (session.code, session.complaint()) == (0, "")
    assert study.losses() + study.shortfalls() == []
    assert all(path.stat().st_size > 1 for path in paths)
    assert [study.run(verb).code for verb in READERS] == [0, 0, 0]


def test_what_cannot_be_made_again_is_named_in_one_line(study: Study) -> None:
    for name in INPUTS:
        path = study.folder / name
        content = path.read_bytes()
        cut(study, name, empty=False)
        refusal = study.run()
        assert (refusal.code, refusal.complaint(), len(lines_about(refusal, path))) == (2, "", 1)
        path.write_bytes(content)
    session = study.run()
    assert (session.code, session.complaint()) == (0, "")
    assert study.losses() == []


def test_raw_data_that_are_cut_are_named_and_left_out(study: Study) -> None:
    paths = [cut(study, name, empty) for name, empty in zip(RAW, (False, True), strict=True)]
    session, report = study.run(), study.run("optimize.report")
    assert (session.code, report.code) == (1, 1)
    for path in paths:
        assert len(lines_about(session, path)) == len(lines_about(report, path)) == 1, path
    assert study.losses() == [] and {t.state for t in study.trials()} == {TrialState.COMPLETE}
