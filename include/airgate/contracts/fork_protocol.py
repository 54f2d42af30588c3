"""What the fork server and its client agree on: messages, where a socket may lie, and which variables a step may see.

A connection carries one request, a line of JSON: {"op": "run", "call_url", "env", "cwd"} with the descriptors of the
step's stdout and stderr (SCM_RIGHTS), {"op": "ping"} or {"op": "stop"}. Answers are lines of JSON too: {"pid": n}, then
{"exit": code} or {"signal": number}; {"error": text} refuses. Closing the sending side kills the step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from airgate.contracts.receipt import RECEIPT_FILE

MODULE = "airgate.steps.forkserver"
MAX_REQUEST = 256 * 1024
KILL_AFTER_SECONDS = 5.0
# Linux keeps a Unix socket's address in 108 bytes, the closing zero with it.
ADDRESS_LIMIT = 107

# What a process needs to find its files and its language. The server gets these and no more.
SYSTEM = frozenset({"PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
                    "PYTHONPATH", "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG"})
# A step gets these too: how wide it may compute, where things are, and what opens the stores it reads and writes.
STEP = SYSTEM | {
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "AIRGATE_HOME", "AIRGATE_MODELS", "AIRGATE_RUNTIME", "AIRGATE_ARTIFACT_STORE", "AIRGATE_MLFLOW_URI",
    "AIRGATE_DATA_REPOSITORY", "AIRGATE_PREDICTIONS", "AIRGATE_CODE_VERSION", "AIRGATE_STEPS_IMAGE",
    "AIRGATE_MODEL_TRUST", "AIRGATE_ENVIRONMENT", "AIRGATE_DASK_SCHEDULER", RECEIPT_FILE,
    "GOOGLE_APPLICATION_CREDENTIALS", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "MLFLOW_S3_ENDPOINT_URL",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
}
STEP_PREFIXES = ("LC_", "AIRGATE_STORE_KEY", "AWS_", "AZURE_STORAGE_", "DASK_", "FSSPEC_", "MLFLOW_TRACKING_",
                 "MLFLOW_HTTP_REQUEST_")
# Libraries that report their use to their makers unless told not to.
SILENCE = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "GX_ANALYTICS_ENABLED": "false",
           "DVC_NO_ANALYTICS": "true"}


def supported() -> bool:
    """Whether this system has what the fork server is made of (pidfds, SO_PEERCRED): Linux."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def for_step(name: str) -> bool:
    """Whether a step may see this variable. Airflow's settings, the audit store's URL and the rest of Airgate's: no."""
    return name in STEP or name.startswith(STEP_PREFIXES)


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep what a step may see."""
    return {name: value for name, value in environment.items() if for_step(name)}


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep what the server may see: nothing that opens anything, since every step is born with the server's memory."""
    kept = {name: value for name, value in environment.items() if name in SYSTEM or name.startswith("LC_")}
    return {**kept, **SILENCE}


@contextmanager
def address(path: Path) -> Iterator[str]:
    """Give the text under which a socket's path can be bound or connected, however long the path is.

    Raises OSError when the folder does not exist.
    """
    if len(os.fsencode(path)) <= ADDRESS_LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
