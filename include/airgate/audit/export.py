"""The log as a folder for whoever verifies it without us (docs/audit-format.md, section 7).

An export says what the database says, also where somebody changed it: finding that is the verifier's work, not ours to mend.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from sqlalchemy import Connection, func, select

from airgate.audit import subject_keys
from airgate.audit.canonical_json import loads
from airgate.audit.completeness import AirflowAccount
from airgate.audit.event import time_text
from airgate.audit.merkle import HASH_BYTES
from airgate.audit.schema import CHECKPOINTS, EVENTS, RECEIPTS
from airgate.audit.store import AuditStore
from airgate.audit.subjects import ids_in
from airgate.audit.tiles import StoredTree
from airgate.audit.verifier import FORMATS, SEGMENT, VerifierKey
from airgate.audit.writing import head
from airgate.errors import AuditError

_BATCH = 500  # rows held: 32 MiB when every event has the largest size


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, how many events and checkpoints, and how many runs and task tries the account asks for."""

    folder: Path
    size: int
    checkpoints: int
    runs: int | None
    tries: int | None


def export(
    store: AuditStore, folder: Path, *, origin: str, readable: bool = False, account: AirflowAccount | None = None
) -> Exported:
    """Write the whole log, one snapshot of it, in bounded memory. `origin` is the log's name, which its checkpoints carry.

    `readable` adds the events with personal fields opened; `account` what must be in the log. The folder appears when it is
    whole. Raises AuditError when it is there and not empty, cannot be written, or the store or the account cannot be read.
    """
    with appearing(folder) as place:
        # The account first: what Airflow tells now was recorded before, so the snapshot that follows has it.
        told = _write_account(place, account, _expired_until(store)) if account is not None else (None, None)

        def work(connection: Connection) -> Exported:
            for part in ("log", "checkpoints", "receipts"):  # a repeated transaction begins anew
                shutil.rmtree(place / part, ignore_errors=True)
            size = head(connection).size
            keys = _write_log(connection, place, readable=readable)
            (place / "keys.txt").write_text("".join(f"{key}\n" for key in keys), encoding="utf-8", newline="\n")
            sizes = _write_checkpoints(connection, place)
            write_json(place / "proofs.json", {"consistency": [
                {"new": new, "old": old, "proof": _consistency(connection, old, new)}
                for old, new in pairwise(sizes)]})
            write_json(place / "manifest.json", {"format": FORMATS[0], "made_at": time_text(datetime.now(UTC)),
                                                 "origin": origin, "segment": SEGMENT, "size": size})
            return Exported(folder, size, len(sizes), *told)

        return store.database.transact(work, write=False)


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder` that takes its name at the end, or is removed after an error. Raises AuditError."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise AuditError(f"{folder} is there already and not an empty folder; nothing is overwritten: name another one")
    place = folder.absolute().parent / f".{folder.absolute().name}.{uuid4().hex}.partial"
    try:
        place.mkdir(parents=True)
        yield place
        place.rename(folder)
    except OSError as error:
        raise AuditError(f"the export to {folder} failed: {error.strerror or error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write one line of JSON in the form of RFC 8785 (of text, whole numbers, lists and objects of these)."""
    path.write_bytes(json_line(value))


def json_line(value: Any) -> bytes:
    """Give one line of JSON as `write_json` writes it."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _expired_until(store: AuditStore) -> str:
    """When the newest event whose contents are gone was stored; "" if there is none."""
    query = select(func.max(EVENTS.c.stored_at)).where(EVENTS.c.entry.is_(None))
    return store.database.transact(lambda connection: connection.execute(query).scalar() or "", write=False)


def _write_account(place: Path, account: AirflowAccount, since: str) -> tuple[int, int]:
    """Write which runs and tries must have an answer, and give how many. What ended before `since` may have had it in contents
    that are gone."""
    runs = tries = 0
    with (place / "account.jsonl").open("wb") as file:
        for run in account.runs():
            if _asked(run.end, since):
                # The time is part of the event's id: a run that is cleared ends again.
                file.write(json_line({"dag_id": run.dag_id, "end": time_text(run.end) if run.end else "", "run_id": run.run_id,
                                      "state": run.state}))
                runs += 1
        for at in account.tries():
            if _asked(at.end, since):
                file.write(json_line({"dag_id": at.dag_id, "map_index": at.map_index, "run_id": at.run_id, "state": at.state,
                                      "task_id": at.task_id, "try_number": at.try_number}))
                tries += 1
    return runs, tries


def _asked(end: datetime | None, since: str) -> bool:
    return end is None or time_text(end) >= since


def _write_log(connection: Connection, place: Path, *, readable: bool) -> list[str]:
    """Write the leaves by their order, whatever numbers they claim, and give the keys that they name."""
    (place / "log").mkdir()
    query = select(EVENTS.c.entry, EVENTS.c.leaf_hash).order_by(EVENTS.c.seq).execution_options(yield_per=_BATCH)
    keys: list[str] = []
    with _Segments(place / "log") as segments, connection.execute(query) as rows:
        opened = (place / "readable.jsonl").open("wb") if readable else None
        try:
            for batch in rows.partitions(_BATCH):
                leaves = [(bytes(row.entry) if row.entry is not None else None, bytes(row.leaf_hash)) for row in batch]
                for entry, leaf in leaves:
                    segments.write(entry if entry is not None else _expired(leaf), leaf)
                    keys += _key_in(entry) if entry is not None else []
                if opened:
                    opened.writelines(_readable(connection, leaves))
        finally:
            if opened:
                opened.close()
    return keys


class _Segments:
    """The files `log/FIRST.jsonl` and `log/FIRST.hashes`, one pair after another."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> "_Segments":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def write(self, line: bytes, leaf: bytes) -> None:
        if self._count % SEGMENT == 0:
            self.__exit__()
            self._files = [(self._folder / f"{self._count:020d}.{kind}").open("wb") for kind in ("jsonl", "hashes")]
        self._files[0].write(line + b"\n")
        self._files[1].write(leaf[:HASH_BYTES].ljust(HASH_BYTES, b"\0"))
        self._count += 1


def _expired(leaf: bytes) -> bytes:
    return b'{"expired":"%b"}' % leaf.hex().encode()


def _key_in(entry: bytes) -> list[str]:
    """Give the verifier key that a leaf names, by its bytes: columns can be changed without breaking the tree."""
    if not entry[entry.rfind(b'"kind":"') + 8 :].startswith(b'audit.key"'):
        return []
    try:
        return [VerifierKey.parse(loads(entry)["event"]["body"]["vkey"]).text()]
    except (AuditError, AttributeError, KeyError, TypeError, ValueError):
        return []


def _readable(connection: Connection, leaves: list[tuple[bytes | None, bytes]]) -> Iterator[bytes]:
    people: set[str] = set()
    for entry, _ in leaves:
        try:
            people |= ids_in(entry or b"")
        except (ValueError, RecursionError):
            continue  # said below, where it is opened
    subjects = subject_keys.for_ids(connection, people)
    for entry, leaf in leaves:
        if entry is None:
            yield _expired(leaf) + b"\n"
            continue
        try:
            record = loads(entry)
            yield json_line(record | {"event": subjects.opened(record["event"])[0]})
        except (AuditError, AttributeError, KeyError, TypeError, ValueError) as error:
            yield json_line({"unreadable": str(error)})


def _write_checkpoints(connection: Connection, place: Path) -> list[int]:
    """Write notes and time stamps as they are stored, and give the notes' sizes."""
    (place / "checkpoints").mkdir()
    sizes: list[int] = []
    for row in connection.execute(select(CHECKPOINTS.c.size, CHECKPOINTS.c.note).order_by(CHECKPOINTS.c.size)):
        (place / "checkpoints" / f"{row.size:020d}.note").write_bytes(row.note)
        sizes.append(row.size)
    folders: dict[str, str] = {}
    for row in connection.execute(select(RECEIPTS).order_by(RECEIPTS.c.anchor, RECEIPTS.c.size)):
        if row.receipt:  # the others' proof is the place itself
            anchor = folders.setdefault(row.anchor, _folder_name(row.anchor, set(folders.values())))
            (place / "receipts" / anchor).mkdir(parents=True, exist_ok=True)
            (place / "receipts" / anchor / f"{row.size:020d}.tsr").write_bytes(row.receipt)
    return sizes


def _folder_name(anchor: str, taken: set[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9-]+", "_", anchor).strip("_")[:100] or "anchor"
    return name if name not in taken else f"{name}-{len(taken) + 1}"


def _consistency(connection: Connection, old: int, new: int) -> list[str]:
    if old == 0:
        return []
    try:
        return [node.hex() for node in StoredTree(connection).consistency(old, new)]
    except AuditError:
        return []  # the log is shorter than what was signed, or its hashes are gone: the verifier will say so
