"""The page over all studies and the reports, and nothing else, as a WSGI application."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.report.environment import script_digest
from optimize.ui.pages import page, script
from optimize.ui.studies import Studies

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_STYLE_ONLY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_PAGE = f"{_STYLE_ONLY}; script-src '{script_digest(script())}'; connect-src 'self'"
"""The first page runs the one script that refreshes it, named by its hash, and asks this server alone."""
_REPORT = (
    "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox allow-downloads; default-src 'none'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:; font-src data:"
)
"""A report holds its scripts within; Plotly's need eval. They neither load nor send anything, and have no origin."""
_TYPES = {".md": "text/plain", ".html": "text/html"}


@dataclass(frozen=True)
class Site:
    """The application.

    Attributes:
        folder: The output folder.
        mlflow: Address of MLflow's UI, for links.
        optuna: Address of Optuna's dashboard, for links.
    """

    folder: Path
    mlflow: str
    optuna: str

    @cached_property
    def _studies(self) -> Studies:
        return Studies(self.folder)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, kind, policy, body = "405 Method Not Allowed", "text/plain", _STYLE_ONLY, b"GET and HEAD only\n"
        else:
            status, kind, policy, body = self._answer(environ["PATH_INFO"])
        headers = {
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "Content-Length": str(len(body)), "Content-Security-Policy": policy, "Allow": "GET, HEAD",
            "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer",
        }  # fmt: skip
        start_response(status, list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, path: str) -> tuple[str, str, str, bytes]:
        """Status, type, policy and body for a decoded path."""
        if path == "/":
            text = page(self._studies.entries(), self._studies.matrix(), self.mlflow, self.optuna)
            return "200 OK", "text/html", _PAGE, text.encode(errors="replace")
        if (file := self._public(path)) is not None:
            kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            return "200 OK", kind, _REPORT, file.read_bytes()
        return "404 Not Found", "text/plain", _STYLE_ONLY, b"There is no such report.\n"

    def _public(self, path: str) -> Path | None:
        """The file that a path names, links followed, if it is the matrix or of a report; this very file is read."""
        try:
            # WSGI hands paths on as Latin-1, whatever their bytes mean.
            name = os.fsdecode(path.encode("latin-1")).lstrip("/")
            root, file = self.folder.resolve(), (self.folder / name).resolve()
            parts = file.relative_to(root).parts if file.is_file() else ()
        except (OSError, ValueError):  # a null byte, a path outside of the folder, one that is too long
            return None
        is_report = len(parts) == 4 and parts[0] == "studies" and parts[2] == "report"
        return file if parts == ("matrix.md",) or is_report else None
