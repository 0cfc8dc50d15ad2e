"""`python -m optimize.ui.mlflow_server`: MLflow's UI behind the guard.

MLflow's own checks are wider: by default `10.evil.example` passes for an address of a private network, pages of every
port of this machine may change runs, and some paths are not checked at all.

MLflow's application runs under uvicorn with the settings that `mlflow server` passes to it: that command imports MLflow
twice, once for itself, and so takes twice as long. Without its job runner it is one process instead of ten.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.importer import import_from_string
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from optimize.ui.access import access_of, add_arguments
from optimize.ui.guard import GuardedAsgi
from optimize.ui.server import ADDRESS

_APPLICATION = "mlflow.server.fastapi_app:app"


def mlflow_ui(folder: Path) -> Any:
    """MLflow over the runs of an output folder."""
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true", "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": f"{folder}/artifacts",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",  # the guard knows them
    }  # fmt: skip
    return import_from_string(_APPLICATION)


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m optimize.ui.mlflow_server", description=__doc__.partition("\n")[0]
    )
    options.add_argument("--folder", type=Path, default=Path("mlruns"), help="folder of the studies (output_dir)")
    add_arguments(options, 5000)
    arguments = options.parse_args()
    access = access_of(options, arguments)
    # The guard needs the connection's own ends, MLflow the address that a proxy reports: hence this order.
    behind_proxies: Any = ProxyHeadersMiddleware(mlflow_ui(arguments.folder))
    guarded: Any = GuardedAsgi(behind_proxies, access)
    uvicorn.run(guarded, host=ADDRESS, port=arguments.port, proxy_headers=False)


if __name__ == "__main__":
    main()
