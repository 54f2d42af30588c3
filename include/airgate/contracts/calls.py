"""Where a call lives in the artifact store, and how it and its result are written and read. Both planes use this.

    <store>/calls/<dag>/<run>/<task>/<map index>/fence                        which launch may write: '<try>/<launch>'
                                                <try>/<launch>/call.json      what the operator asks
                                                               result.json    what the runner answers, last and at once

Each launch has a folder of its own, so none can answer for another. What lies outside it, MLflow and predictions, a step
writes only while the fence names its launch: a pod that comes back after another took its place finds itself shut out. This is
a fencing token as in M. Kleppmann, "How to do distributed locking" (2016), held by the writer's own code: a store that compares
tokens is not to be had everywhere.

Whoever may write the store can rewrite what lies in it, so neither side believes it. A launch is named '<8 random hex>-<SHA-256
of call.json>', and the step learns that name from its command line. The SHA-256 of result.json goes back as a receipt, by a way
around the store (airgate.contracts.receipt).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from airgate.contracts.base import Contract
from airgate.contracts.small_files import read_if_there, write_bytes
from airgate.contracts.step import RunContext, StepCall, StepResult
from airgate.errors import ArtifactError, ContractError, DigestError, FencedError

CALL_FILE = "call.json"
RESULT_FILE = "result.json"
FENCE_FILE = "fence"
SCHEMA_VERSION = 1
# File systems allow 255 bytes a name, and a percent-encoded id can be nine times as long as the id.
NAME_LIMIT = 200
LAUNCH = re.compile(r"[0-9a-f]{8}-(?P<digest>[0-9a-f]{64})")

AnyContract = TypeVar("AnyContract", bound=Contract)


def call_url(store: str, run: RunContext, launch: str) -> str:
    """Give the URL of a launch's call.json under the store's root. Two launches never share one."""
    ids = (run.dag_id, run.run_id, run.task_id, str(run.map_index), str(run.try_number), launch)
    return "/".join([store.rstrip("/"), "calls", *map(_segment, ids), CALL_FILE])


def result_url(url: str) -> str:
    """Give the URL of the result.json beside a call.json. Raises ContractError when `url` names no call.json."""
    if not url.endswith("/" + CALL_FILE):
        raise ContractError(f"{url}: a call's URL ends in /{CALL_FILE}. Pass the URL that write_call gave.")
    return url.removesuffix(CALL_FILE) + RESULT_FILE


def write_call(call: StepCall) -> str:
    """Write the call into a new launch's folder, let that launch write, and no other of its task; give the call's URL.

    Raises ArtifactError when the store cannot be written.
    """
    data = call.model_dump_json().encode()
    url = call_url(call.store, call.run, f"{secrets.token_hex(4)}-{hashlib.sha256(data).hexdigest()}")
    write_bytes(url, data)
    let_write(url)
    return url


def let_write(url: str) -> None:
    """From now on the launch of this call may write, and no other of its task. Raises ArtifactError."""
    fence, launch = _fence(url)
    write_bytes(fence, launch.encode())


def check_fence(url: str) -> None:
    """Raise FencedError when another launch took over from that of this call; ArtifactError when the store cannot be read.

    Where nobody has put up a fence, everyone may write.
    """
    fence, launch = _fence(url)
    data = read_if_there(fence)
    if data is not None and data.decode(errors="replace") != launch:
        raise FencedError(f"launch {launch} of this task may write nothing any more: launch {data.decode(errors='replace')} took "
                          f"over ({fence}). Nothing is lost: that one does the work.")


def read_call(url: str) -> StepCall:
    """Read the call that the URL promises.

    Raises ArtifactError when there is none, DigestError when it is another than the one that was written there, ContractError
    when the URL promises none or the call does not have the shape that its schema version promises.
    """
    promised = _promised(url)
    data = read_if_there(url)
    if data is None:
        raise ArtifactError(f"{url}: there is no call. Has the operator written it, and do both use the same store?")
    _refuse_another(url, promised, data)
    return _parse(url, data, StepCall)


def write_result(url: str, result: StepResult) -> str:
    """Write the result beside the call at `url`, whole or not at all; give the SHA-256 of its bytes. Raises ArtifactError."""
    data = result.model_dump_json().encode()
    write_bytes(result_url(url), data)
    return hashlib.sha256(data).hexdigest()


def read_result(url: str, digest: str | None) -> StepResult | None:
    """Read the result beside the call at `url` that has this SHA-256, which its runner's receipt said.

    None when the step has left none, or no receipt: what lies there then may be anybody's. Raises DigestError when it is another
    result, ContractError when it does not have the promised shape, ArtifactError when the store cannot be read.
    """
    data = read_if_there(result_url(url)) if digest is not None else None
    if data is None or digest is None:
        return None
    _refuse_another(result_url(url), digest, data)
    return _parse(result_url(url), data, StepResult)


def _segment(name: str) -> str:
    """An id as one folder name: no separator, no leading dot, ASCII only, and two ids never the same."""
    text = quote(name, safe="")
    if text.startswith(".") or not text:
        text = "%2E" + text[1:]
    if len(text) > NAME_LIMIT:
        text = f"{text[:NAME_LIMIT - 40]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return text


def _fence(url: str) -> tuple[str, str]:
    """The fence's URL and how it names the launch of the call at `url`."""
    result_url(url)  # refuses what is no call's URL
    folder, attempt, launch, _ = url.rsplit("/", 3)
    return f"{folder}/{FENCE_FILE}", f"{attempt}/{launch}"


def _promised(url: str) -> str:
    """The SHA-256 that a call's URL promises its bytes to have."""
    result_url(url)  # refuses what is no call's URL
    launch = LAUNCH.fullmatch(url.split("/")[-2]) if url.count("/") else None
    if launch is None:
        raise ContractError(f"{url}: its launch is not named '<8 hex digits>-<SHA-256 of the call>', so nobody can tell whether "
                            "the call is the one that was asked. Pass the URL that write_call gave.")
    return launch["digest"]


def _refuse_another(url: str, expected: str, data: bytes) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DigestError(f"{url}: expected sha256:{expected}, found sha256:{found}. Somebody changed it after it was written: "
                          "it is not used. Find out who may write the artifact store besides Airgate; then clear the task.")


def _parse(url: str, data: bytes, contract: type[AnyContract]) -> AnyContract:
    """Bytes to a contract, with complaints that name keys and never repeat values, which may be secret."""
    try:
        return contract.model_validate_json(data)
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False, include_context=False)
    version = _version(data)
    if version not in (None, SCHEMA_VERSION):
        raise ContractError(f"{url}: its schema_version is {version!r}, this Airgate reads {SCHEMA_VERSION}. The "
                            "images of steps and Airflow must come from the same release: upgrade the older one.")
    text = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}" for item in items[:5])
    raise ContractError(f"{url}: not a {contract.__name__} of schema version {SCHEMA_VERSION}: {text}. Was it written "
                        "by another release, or by hand?")


def _version(data: bytes) -> object:
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document.get("schema_version") if isinstance(document, dict) else None
