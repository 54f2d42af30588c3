"""MLflow's server in one process: `python -m airgate.platform.mlflow_server HOST PORT ARTIFACT_FOLDER`.

`mlflow server` keeps a second process whose only work is to have started the first: 4 seconds of CPU and 170 MB. This
does the same for one worker, by MLflow's own names of the settings. The database's URL is in MLFLOW_BACKEND_STORE_URI.
"""

import os
import sys


def main(host: str, port: int, artifacts: str) -> None:
    """Bring MLflow's database to the installed version, then serve until a signal ends it."""
    from mlflow.server import constants

    backend = os.environ.pop("MLFLOW_BACKEND_STORE_URI")
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: backend,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(backend, None, "mlflow-artifacts:/")
    import uvicorn

    uvicorn.run("mlflow.server.fastapi_app:app", host=host, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
