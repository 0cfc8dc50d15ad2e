"""The page that links every study with its report, its MLflow run and its dashboard.

It is built at each request from the files on disk, so it may stay open while a study runs.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border: 1px solid #8886; border-radius: .5rem; padding: .5rem 1rem 1rem; margin: 1rem 0; }
h2 { margin: .3rem 0; } p { margin: .3rem 0; } nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
h2 { overflow-wrap: anywhere; }
.summary { opacity: .75; }
"""
_NONE = "<p>There are no studies yet. <code>python -m optimize +study=smoke</code> runs a first one.</p>"


@dataclass(frozen=True)
class Entry:
    """One study on the page.

    Attributes:
        name: Name of the study.
        tags: Scenario and model, among others.
        trials: Number of ended trials.
        ended: Whether the study ended; otherwise it runs or was killed.
        run: (experiment id, run id) in MLflow's database; None if it is not there.
        number: Id in Optuna's database; None if it is not there.
        reports: Files of its report that a browser can show.
        changed_at: Unix time of its last change.
    """

    name: str
    tags: Mapping[str, str]
    trials: int
    ended: bool
    run: tuple[str, str] | None
    number: int | None
    reports: Sequence[str]
    changed_at: float


def entries(folder: Path) -> list[Entry]:
    """All studies under an output folder, the last changed first."""
    numbers = dict(_query(folder / "optuna.db", "select study_name, study_id from studies"))
    runs = dict(_query(folder / "mlflow.db", "select run_uuid, experiment_id from runs"))
    listed = [_entry(path.parent, numbers, runs) for path in (folder / "studies").glob("*/about.json")]
    return sorted(listed, key=lambda entry: -entry.changed_at)


def _entry(study: Path, numbers: Mapping[str, int], runs: Mapping[str, int]) -> Entry:
    about, state = _json(study / "about.json"), _json(study / "mlflow.json")
    tags = about.get("tags", about)
    trials = list((study / "trials").glob("*/trial.json"))
    run = str(state.get("run_id", ""))
    reports = sorted(path.name for path in (study / "report").glob("*.html"))
    changed = max(map(_changed_at, [study / "about.json", *trials]))
    return Entry(
        name=study.name, tags=tags if isinstance(tags, dict) else {}, trials=len(trials),
        ended=bool(state.get("complete")),
        run=(str(runs[run]), run) if run in runs else None, number=numbers.get(study.name),
        reports=sorted(reports, key=lambda name: name != "report.html"), changed_at=changed,
    )  # fmt: skip


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # moved away since it was listed
        return 0.0


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _query(database: Path, query: str) -> Iterator[tuple[Any, Any]]:
    """Rows of a database, read-only; none if it does not exist or is not ready."""
    if database.is_file():
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{quote(os.fsencode(database))}?mode=ro", uri=True)) as connection,
        ):
            yield from connection.execute(query).fetchall()


def page(studies: Sequence[Entry], mlflow: str, optuna: str) -> str:
    """The page as HTML that needs no other file."""
    sections = "".join(_section(entry, mlflow, optuna) for entry in studies) or _NONE
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<link rel=icon href='data:,'>"
        f"<title>Studies</title><style>{_STYLE}</style><h1>Studies</h1>"
        f"<nav><a href='{escape(mlflow)}'>MLflow: all runs</a>"
        f"<a href='{escape(optuna)}/dashboard'>Optuna dashboard: all studies</a>"
        f"<a href='matrix.md'>Matrix over all studies</a></nav>{sections}</html>"
    )


def _section(entry: Entry, mlflow: str, optuna: str) -> str:
    links = [(f"studies/{_quoted(entry.name)}/report/{_quoted(file)}", _title(file)) for file in entry.reports]
    if entry.run is not None:
        experiment, run = entry.run
        only = f"tags.study = '{entry.name}' and tags.role != 'study'"
        # Sorted by time, the default, MLflow folds the trials under their study.
        children = f"searchFilter={_quoted(only)}&orderByKey=metrics.%60qps%60&orderByAsc=false"
        links.append((f"{mlflow}/#/experiments/{experiment}/runs/{run}", "MLflow: result"))
        links.append((f"{mlflow}/#/experiments/{experiment}/runs?{children}", "MLflow: trials"))
    if entry.number is not None:
        links.append((f"{optuna}/dashboard/studies/{entry.number}", "Optuna dashboard"))
    tags = ", ".join(f"{key} {value}" for key, value in entry.tags.items() if key in ("scenario", "model"))
    count = "1 trial" if entry.trials == 1 else f"{entry.trials} trials"
    state = "ended" if entry.ended else "running or interrupted"
    shown = "".join(f"<a href='{escape(target)}'>{escape(text)}</a>" for target, text in links)
    return (
        f"<section><h2>{escape(entry.name)}</h2><p class=summary>{escape(tags)}; {count}; {state}</p>"
        f"<nav>{shown}</nav></section>"
    )


def _quoted(name: str) -> str:
    """A name in an address, also one of a file that is not UTF-8."""
    return quote(os.fsencode(name))


def _title(file: str) -> str:
    return "report" if file == "report.html" else f"{file.removesuffix('.html').replace('_', ' ')} figure"
