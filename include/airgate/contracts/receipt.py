"""The receipt of a step: the SHA-256 of its result.json, which goes from runner to operator by a way around the artifact store.

A pod's goes into its termination message, which the kubelet hands to the API server; a local process's into a file of its
worker's. See https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airgate.errors import ArtifactError

# The environment variable that says where the runner leaves it.
RECEIPT_FILE = "AIRGATE_RECEIPT_FILE"
TERMINATION_LOG = "/dev/termination-log"
RECEIPT = re.compile(r"sha256:([0-9a-f]{64})\s*")


def leave(digest: str) -> None:
    """Leave the receipt for a result of this SHA-256 (hex), if anyone waits for one.

    Raises ArtifactError when it cannot be left.
    """
    place = os.environ.get(RECEIPT_FILE)
    if not place:
        return
    try:
        Path(place).write_text(f"sha256:{digest}\n")
    except OSError as error:
        raise ArtifactError(f"{place}: the result's receipt cannot be left: {error.strerror}. Without it nobody takes the result "
                            "for this step's.") from error


def read(text: str | None) -> str | None:
    """The SHA-256 in a receipt; None when it is none: the step left nothing, or wrote of its own into its place."""
    found = RECEIPT.fullmatch(text or "")
    return found[1] if found else None


@contextmanager
def waited_for() -> Iterator[Path]:
    """A place for one local process's receipt, which only this user can reach; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="airgate-receipt-") as folder:
        place = Path(folder, "receipt")
        place.touch()
        yield place
