"""Where a call lives in the artifact store, and how it and its result are written and read. Both planes use this.

    <store>/calls/<dag>/<run>/<task>/<map index>/fence                        which launch may write: '<try>/<launch>'
                                                <try>/<launch>/call.json      what the operator asks
                                                               result.json    what the runner answers, last and at once

Each launch has a folder of its own, so none can answer for another. What lies outside it, MLflow and predictions, a step
writes only while the fence names its launch: a pod that comes back after another took its place finds itself shut out. This is
a fencing token as in M. Kleppmann, "How to do distributed locking" (2016), held by the writer's own code: a store that compares
tokens is not to be had everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from airgate.contracts.base import Contract
from airgate.contracts.step import RunContext, StepCall, StepResult
from airgate.errors import ArtifactError, ContractError, FencedError, MissingArtifactError

CALL_FILE = "call.json"
RESULT_FILE = "result.json"
FENCE_FILE = "fence"
SCHEMA_VERSION = 1
# File systems allow 255 bytes a name, and a percent-encoded id can be nine times as long as the id.
NAME_LIMIT = 200

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
    url = call_url(call.store, call.run, secrets.token_hex(4))
    write_bytes(url, call.model_dump_json().encode())
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
    data = _read(fence)
    if data is not None and data.decode(errors="replace") != launch:
        raise FencedError(f"launch {launch} of this task may write nothing any more: launch {data.decode(errors='replace')} took "
                          f"over ({fence}). Nothing is lost: that one does the work.")


def read_call(url: str) -> StepCall:
    """Read a call. Raises ArtifactError when there is none, ContractError when it does not have the promised shape."""
    data = _read(url)
    if data is None:
        raise ArtifactError(f"{url}: there is no call. Has the operator written it, and do both use the same store?")
    return _parse(url, data, StepCall)


def write_result(url: str, result: StepResult) -> None:
    """Write the result beside the call at `url`: whole or not at all. Raises ArtifactError."""
    write_bytes(result_url(url), result.model_dump_json().encode())


def read_result(url: str) -> StepResult | None:
    """Read the result beside the call at `url`; None when the step has left none.

    Raises ContractError when it does not have the promised shape, ArtifactError when the store cannot be read.
    """
    data = _read(result_url(url))
    return None if data is None else _parse(result_url(url), data, StepResult)


def read_bytes(url: str) -> bytes:
    """Read a whole artifact. Raises MissingArtifactError when it is not there, ArtifactError when it cannot be read."""
    data = _read(url)
    if data is None:
        raise MissingArtifactError(f"{url}: nothing is there. Was the artifact store cleaned? Run the step that made it again.")
    return data


def write_bytes(url: str, data: bytes) -> None:
    """Write a small file whole or not at all. Raises ArtifactError when the store cannot be written."""
    path = local_path(url)
    try:
        if path is None:
            # An object store shows a put when it is complete; there is no half of it to see.
            filesystem, key = remote(url)
            filesystem.pipe_file(key, data)
        else:
            replace_file(path, data)
    except Exception as error:  # each kind of store has its own errors, and few of them are OSErrors
        raise ArtifactError(f"{url}: cannot be written ({len(data)} bytes): {reason(error)}. "
                            "Check that the artifact store is there, writable and not full.") from error


def exists(url: str) -> bool:
    """Whether a file or folder is there. Raises ArtifactError when the store cannot be asked."""
    path = local_path(url)
    try:
        if path is not None:
            return path.exists()
        filesystem, key = remote(url)
        return bool(filesystem.exists(key))
    except Exception as error:
        raise _unreadable(url, error) from error


def files_below(url: str) -> list[str]:
    """URLs of all files under a folder, sorted; none where it is not there. Raises ArtifactError as `exists` does."""
    path = local_path(url)
    try:
        if path is not None:
            return sorted(f"file://{found}" for found in path.rglob("*") if found.is_file())
        filesystem, key = remote(url)
        return sorted(str(filesystem.unstrip_protocol(found)) for found in filesystem.find(key))
    except Exception as error:
        raise _unreadable(url, error) from error


def remote(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it. Imported here: a local store does without it."""
    import fsspec

    filesystem, key = fsspec.url_to_fs(url)
    return filesystem, key


def reason(error: Exception) -> str:
    """What a store's error says, in a few words: each kind of store has its own errors."""
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"


def local_path(url: str) -> Path | None:
    """Give the path of a file:// URL or a plain path; None for any other store, which only fsspec can reach."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).absolute()
    return Path("/" + rest.lstrip("/")) if scheme in ("file", "local") else None


def _segment(name: str) -> str:
    """An id as one folder name: no separator, no leading dot, ASCII only, and two ids never the same."""
    text = quote(name, safe="")
    if text.startswith(".") or not text:
        text = "%2E" + text[1:]
    if len(text) > NAME_LIMIT:
        text = f"{text[:NAME_LIMIT - 40]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return text


def replace_file(path: Path, data: bytes) -> None:
    """Write a local file so that a reader sees all of it or what was there before. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # mkstemp lets only its own user read; the store's readers may be others, as the umask says.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's umask without changing it, which would race with other threads."""
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else ():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def _read(url: str) -> bytes | None:
    path = local_path(url)
    try:
        if path is not None:
            return path.read_bytes()
        filesystem, key = remote(url)
        return bytes(filesystem.cat_file(key))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise _unreadable(url, error) from error


def _fence(url: str) -> tuple[str, str]:
    """The fence's URL and how it names the launch of the call at `url`."""
    result_url(url)  # refuses what is no call's URL
    folder, attempt, launch, _ = url.rsplit("/", 3)
    return f"{folder}/{FENCE_FILE}", f"{attempt}/{launch}"


def _unreadable(url: str, error: Exception) -> ArtifactError:
    return ArtifactError(f"{url}: cannot be read: {reason(error)}. Check that the artifact store is there "
                         "and that this process may read it.")


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
