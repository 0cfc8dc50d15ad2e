"""`python -m optimize.ui.dashboard`: Optuna's dashboard behind the guard, which its own command does not have."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.ui.access import access_of, add_arguments
from optimize.ui.guard import GuardedWsgi
from optimize.ui.server import server

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

FILES = "/artifacts/"
"""Start of the paths under which the dashboard serves files of studies and trials."""


def dashboard(folder: Path) -> WSGIApplication:
    """The dashboard over the studies of an output folder, which it creates where it is missing."""
    from optuna.artifacts import FileSystemArtifactStore
    from optuna_dashboard import wsgi

    files = folder / "dashboard"
    files.mkdir(parents=True, exist_ok=True)
    application: WSGIApplication = wsgi(
        f"sqlite:///{folder}/optuna.db", artifact_store=FileSystemArtifactStore(str(files))
    )
    return application


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m optimize.ui.dashboard", description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("mlruns"), help="folder of the studies (output_dir)")
    add_arguments(options, 8080)
    arguments = options.parse_args()
    guarded = GuardedWsgi(dashboard(arguments.folder), access_of(options, arguments), sandboxed=FILES)
    with suppress(KeyboardInterrupt), server(guarded, arguments.port) as serving:
        serving.serve_forever()


if __name__ == "__main__":
    main()
