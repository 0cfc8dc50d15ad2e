"""`python -m optimize.ui`: one page that links every study with its report, its MLflow run and its dashboard.

Made anew at each request from what lies on disk, so it may be open while a study runs. Serves the reports too, and
nothing else, to this machine only. Used by scripts/ui; needs nothing but the standard library, so it is up at once.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

_ADDRESS = "127.0.0.1"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
section { border: 1px solid #8886; border-radius: .5rem; padding: .5rem 1rem 1rem; margin: 1rem 0; }
h2 { margin: .3rem 0; } p { margin: .3rem 0; } nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
h2 { overflow-wrap: anywhere; }
.what { opacity: .75; }
"""
_NONE = "<p>No study ran yet: <code>scripts/optimize +study=smoke</code> makes the first, and it shows up here.</p>"


@dataclass(frozen=True)
class Entry:
    """One study on the page.

    Attributes:
        name: Of the study.
        tags: Scenario and model.
        trials: How many ended.
        ended: Whether the study ended; else it runs, or was killed.
        run: (experiment id, run id) in MLflow's database; None where it is not known there.
        number: In Optuna's database; None where it is not known there.
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
    """All studies under an output folder, the one that changed last first."""
    numbers = dict(_ask(folder / "optuna.db", "select study_name, study_id from studies"))
    runs = dict(_ask(folder / "mlflow.db", "select run_uuid, experiment_id from runs"))
    found = [_entry(path.parent, numbers, runs) for path in (folder / "studies").glob("*/about.json")]
    return sorted(found, key=lambda entry: -entry.changed_at)


def _entry(study: Path, numbers: Mapping[str, int], runs: Mapping[str, int]) -> Entry:
    about, state = _json(study / "about.json"), _json(study / "mlflow.json")
    trials = list((study / "trials").glob("*/trial.json"))
    run = state.get("run_id", "")
    reports = sorted(path.name for path in (study / "report").glob("*.html"))
    changed = max((path.stat().st_mtime for path in [study / "about.json", *trials]), default=0.0)
    return Entry(
        name=study.name, tags=about.get("tags", about), trials=len(trials), ended=bool(state.get("complete")),
        run=(str(runs[run]), run) if run in runs else None, number=numbers.get(study.name),
        reports=sorted(reports, key=lambda name: name != "report.html"), changed_at=changed,
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _ask(database: Path, query: str) -> Iterator[tuple[Any, Any]]:
    """Rows of somebody else's database, read only; none where it is not there or not ready."""
    if database.is_file():
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            yield from connection.execute(query).fetchall()


def page(found: Sequence[Entry], mlflow: str, optuna: str) -> str:
    """The page, as HTML that needs nothing else."""
    sections = "".join(_section(entry, mlflow, optuna) for entry in found) or _NONE
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<link rel=icon href='data:,'>"
        f"<title>Studies</title><style>{_STYLE}</style><h1>Studies</h1>"
        f"<nav><a href='{mlflow}'>MLflow: all runs</a><a href='{optuna}/dashboard'>Optuna dashboard: all studies</a>"
        f"<a href='matrix.md'>matrix over all studies</a></nav>{sections}</html>"
    )


def _section(entry: Entry, mlflow: str, optuna: str) -> str:
    links = [(f"studies/{quote(entry.name)}/report/{quote(file)}", _title(file)) for file in entry.reports]
    if entry.run is not None:
        experiment, run = entry.run
        only = f"tags.study = '{entry.name}' and tags.role != 'study'"
        # Sorted by time, its default, MLflow folds the trials away under their study.
        children = f"searchFilter={quote(only)}&orderByKey=metrics.%60qps%60&orderByAsc=false"
        links.append((f"{mlflow}/#/experiments/{experiment}/runs/{run}", "result in MLflow"))
        links.append((f"{mlflow}/#/experiments/{experiment}/runs?{children}", "trials in MLflow"))
    if entry.number is not None:
        links.append((f"{optuna}/dashboard/studies/{entry.number}", "Optuna dashboard"))
    tags = ", ".join(f"{key} {value}" for key, value in entry.tags.items() if key in ("scenario", "model"))
    state = "ended" if entry.ended else "running, or cut off"
    shown = "".join(f"<a href='{escape(target)}'>{escape(text)}</a>" for target, text in links)
    return (
        f"<section><h2>{escape(entry.name)}</h2><p class=what>{escape(tags)}; {entry.trials} trials; {state}</p>"
        f"<nav>{shown}</nav></section>"
    )


def _title(file: str) -> str:
    return "report" if file == "report.html" else file.removesuffix(".html").replace("_", " ") + " figure"


class Pages(SimpleHTTPRequestHandler):
    """Answers with the page, the reports and the matrix; everything else is not there."""

    def __init__(self, *args: Any, folder: Path, mlflow: str, optuna: str, **kwargs: Any) -> None:
        self._folder, self._mlflow, self._optuna = folder, mlflow, optuna
        super().__init__(*args, directory=str(folder), **kwargs)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.headers.get("Host", "").partition(":")[0] not in (_ADDRESS, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)  # a page elsewhere that had its name point here
        elif path == "/":
            self._send(page(entries(self._folder), self._mlflow, self._optuna))
        elif self._is_public(path):
            super().do_GET()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def _is_public(self, path: str) -> bool:
        file = (self._folder / path.lstrip("/")).resolve()
        if not file.is_file() or not file.is_relative_to(self._folder.resolve()):
            return False
        parts = file.relative_to(self._folder.resolve()).parts
        return parts == ("matrix.md",) or (len(parts) == 4 and parts[0] == "studies" and parts[2] == "report")

    def _send(self, text: str) -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        for name, value in (("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: it is one reader's own page."""


Pages.extensions_map = {**Pages.extensions_map, ".md": "text/plain; charset=utf-8"}


def server(folder: Path, port: int, mlflow: str, optuna: str) -> ThreadingHTTPServer:
    """The server, bound to loopback; port 0 takes a free one."""
    handler = partial(Pages, folder=folder, mlflow=mlflow, optuna=optuna)
    return ThreadingHTTPServer((_ADDRESS, port), handler)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m optimize.ui", description=__doc__.partition("\n")[0])
    options.add_argument("--folder", type=Path, default=Path("mlruns"), help="where studies are (output_dir)")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--mlflow", default=f"http://{_ADDRESS}:5000", help="address of the MLflow UI")
    options.add_argument("--optuna", default=f"http://{_ADDRESS}:8080", help="address of the Optuna dashboard")
    given = options.parse_args()
    with suppress(KeyboardInterrupt), server(given.folder, given.port, given.mlflow, given.optuna) as serving:
        serving.serve_forever()


if __name__ == "__main__":
    main()
