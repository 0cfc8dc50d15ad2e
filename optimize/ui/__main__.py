"""`python -m optimize.ui`: one page to watch every study on, to decide by, and to go on from.

It serves the reports too, and nothing else, to this machine only. It loads nothing heavy, so it starts at once.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from optimize.ui.access import access_of, add_arguments
from optimize.ui.guard import GuardedWsgi
from optimize.ui.server import ADDRESS, server
from optimize.ui.site import Site


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m optimize.ui", description=__doc__.partition("\n")[0])
    options.add_argument("--folder", type=Path, default=Path("mlruns"), help="folder of the studies (output_dir)")
    options.add_argument("--mlflow", default=f"http://{ADDRESS}:5000", help="address of the MLflow UI")
    options.add_argument("--optuna", default=f"http://{ADDRESS}:8080", help="address of the Optuna dashboard")
    add_arguments(options, 8000)
    arguments = options.parse_args()
    site = Site(arguments.folder, arguments.mlflow, arguments.optuna)
    guarded = GuardedWsgi(site, access_of(options, arguments))
    with suppress(KeyboardInterrupt), server(guarded, arguments.port) as serving:
        serving.serve_forever()


if __name__ == "__main__":
    main()
