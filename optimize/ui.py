"""`python -m optimize.ui`: one page that links every study with its report, its MLflow run and its dashboard.

The page is built at each request from the files on disk, so it may stay open while a study runs. The server also serves
the reports, and nothing else, to this machine only. scripts/ui uses it; it needs the standard library alone, so it
starts at once.
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


def _query(database: Path, query: str) -> Iterator[tuple[Any, Any]]:
    """Rows of a database, read-only; none if it does not exist or is not ready."""
    if database.is_file():
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            yield from connection.execute(query).fetchall()


def page(studies: Sequence[Entry], mlflow: str, optuna: str) -> str:
    """The page as HTML that needs no other file."""
    sections = "".join(_section(entry, mlflow, optuna) for entry in studies) or _NONE
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<link rel=icon href='data:,'>"
        f"<title>Studies</title><style>{_STYLE}</style><h1>Studies</h1>"
        f"<nav><a href='{mlflow}'>MLflow: all runs</a><a href='{optuna}/dashboard'>Optuna dashboard: all studies</a>"
        f"<a href='matrix.md'>Matrix over all studies</a></nav>{sections}</html>"
    )


def _section(entry: Entry, mlflow: str, optuna: str) -> str:
    links = [(f"studies/{quote(entry.name)}/report/{quote(file)}", _title(file)) for file in entry.reports]
    if entry.run is not None:
        experiment, run = entry.run
        only = f"tags.study = '{entry.name}' and tags.role != 'study'"
        # Sorted by time, the default, MLflow folds the trials under their study.
        children = f"searchFilter={quote(only)}&orderByKey=metrics.%60qps%60&orderByAsc=false"
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


def _title(file: str) -> str:
    return "report" if file == "report.html" else f"{file.removesuffix('.html').replace('_', ' ')} figure"


class Pages(SimpleHTTPRequestHandler):
    """Serves the page, the reports and the matrix; every other path is 404."""

    def __init__(self, *args: Any, folder: Path, mlflow: str, optuna: str, **kwargs: Any) -> None:
        self._folder, self._mlflow, self._optuna = folder, mlflow, optuna
        super().__init__(*args, directory=str(folder), **kwargs)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.headers.get("Host", "").partition(":")[0] not in (_ADDRESS, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)  # DNS rebinding: the name of another site that points here
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
        """Silent: the server has one reader."""


Pages.extensions_map = {**Pages.extensions_map, ".md": "text/plain; charset=utf-8"}


def server(folder: Path, port: int, mlflow: str, optuna: str) -> ThreadingHTTPServer:
    """The server, bound to loopback; port 0 takes a free one."""
    handler = partial(Pages, folder=folder, mlflow=mlflow, optuna=optuna)
    return ThreadingHTTPServer((_ADDRESS, port), handler)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m optimize.ui", description=__doc__.partition("\n")[0])
    options.add_argument("--folder", type=Path, default=Path("mlruns"), help="folder of the studies (output_dir)")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--mlflow", default=f"http://{_ADDRESS}:5000", help="address of the MLflow UI")
    options.add_argument("--optuna", default=f"http://{_ADDRESS}:8080", help="address of the Optuna dashboard")
    arguments = options.parse_args()
    with (
        suppress(KeyboardInterrupt),
        server(arguments.folder, arguments.port, arguments.mlflow, arguments.optuna) as serving,
    ):
        serving.serve_forever()


if __name__ == "__main__":
    main()
