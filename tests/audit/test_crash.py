"""The crash matrix: what the log promised, it keeps, whatever is killed and when.

Writers append numbered events and note each promise durably: recorded as number so-and-so, or kept in the spool. Meanwhile
writers, the database's server, or both are killed at random moments. Then everything must be there once, in its place.

AIRGATE_CRASH_SEED repeats a run's choices, AIRGATE_CRASH_SECONDS makes each case longer.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.audit.crash import PATIENCE, RECORDED, Server, Writers, numbered, serving

from airgate.audit.event import canonical
from airgate.audit.spool import Spool
from airgate.audit.store import AuditStore

pytestmark = pytest.mark.faults
WRITERS = 3
SECONDS = float(os.environ.get("AIRGATE_CRASH_SECONDS", "3"))
SEED = int(os.environ.get("AIRGATE_CRASH_SEED") or random.SystemRandom().randrange(2**32))
COLUMNS = ("case", "database", "writers", "kills", "recorded", "spooled", "stored", "gaps", "duplicates", "verdict")


@dataclass(frozen=True)
class Found:
    """What a case came to. `wrong` says in words what was promised and not kept."""

    kills: int
    recorded: int
    spooled: int
    stored: int
    gaps: int
    duplicates: int
    wrong: tuple[str, ...]


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[tuple[str, ...]]]:
    """Rows of the table that is printed at the end, whether tests pass or not."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    yield rows
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n\ncrash matrix, AIRGATE_CRASH_SEED=", SEED, "\n", "\n".join(lines), sep="")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


@pytest.fixture(scope="module")
def server_url(server: Server) -> str:
    return server.create_log()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/audit.db"
    AuditStore(url).create()
    return url


def check(case: str, writers: Writers, log: AuditStore, kills: int, size_before: int) -> Found:
    """Hold the promises against the log."""
    stored = log.events(after=size_before - 1)
    seqs = [one.seq for one in stored]
    by_seq = {one.seq: one.event for one in stored}
    ids = Counter(str(one.event.event_id) for one in stored)
    wrong = []
    promises = [(writer, *note) for writer in range(len(writers)) for note in writers.notes(writer)]
    for writer, promise, seq, number, event_id in promises:
        if promise == RECORDED and (seq not in by_seq or canonical(by_seq[seq]) != canonical(numbered(case, writer, number))):
            wrong.append(f"writer {writer} was told that its event {number} is recorded as {seq}; it is not")
        if event_id not in ids:
            wrong.append(f"event {number} of writer {writer} ({promise}) is not in the log")
    for one in stored:
        expected = numbered(case, int(str(one.event.body["writer"])), int(str(one.event.body["number"])))
        if canonical(one.event) != canonical(expected) or b"wrote" in one.entry:
            wrong.append(f"event {one.seq} is not what was offered")
    report = log.verify()
    if not report.ok:
        wrong.append(report.line())
    size = log.head()[0]
    recorded = sum(promise[1] == RECORDED for promise in promises)
    return Found(kills, recorded, len(promises) - recorded, len(stored), size - size_before - len(set(seqs)),
                 sum(count - 1 for count in ids.values()), tuple(wrong))


def storm(case: str, url: str, folder: Path, strikes: Callable[[random.Random, Writers], list[Callable[[], None]]],
          server: Server | None = None) -> Found:
    """Let writers write and strike at random moments, every strike at least once; then look."""
    rng = random.Random(f"{SEED} {case}")
    log = AuditStore(url, patience=30.0)
    before, server_kills = log.head()[0], server.kills if server else 0
    writers = Writers(case, WRITERS, url, folder)
    blows = strikes(rng, writers)
    due = rng.sample(blows, len(blows))
    end = time.monotonic() + SECONDS
    while due or time.monotonic() < end:
        time.sleep(rng.uniform(0.05, 0.7 if server else 0.3))
        (due.pop() if due else rng.choice(blows))()
    exit_codes = writers.finish()
    assert exit_codes == [0] * WRITERS
    report = Spool(folder / "spool").drain(log)
    assert (report.left, report.aside, list((folder / "spool").glob("*.json"))) == (0, [], [])
    return check(case, writers, log, writers.kills + (server.kills - server_kills if server else 0), before)


def accept(found: Found, table: list[tuple[str, ...]], case: str, database: str) -> None:
    sound = not found.wrong and not found.gaps and not found.duplicates
    numbers = (WRITERS, found.kills, found.recorded, found.spooled, found.stored, found.gaps, found.duplicates)
    table.append((case, database, *map(str, numbers), "ok" if sound else "LOST"))
    assert found.wrong == (), f"AIRGATE_CRASH_SEED={SEED}"
    assert (found.gaps, found.duplicates) == (0, 0), f"AIRGATE_CRASH_SEED={SEED}"
    assert found.kills > 0 and found.recorded > 0 and found.stored >= found.recorded


def one_writer(rng: random.Random, writers: Writers) -> list[Callable[[], None]]:
    return [lambda: writers.kill(rng.randrange(len(writers)))]


def all_writers(_: random.Random, writers: Writers) -> list[Callable[[], None]]:
    def strike() -> None:
        writers.kill_all()
        writers.start_all()

    return [strike]


def outage(rng: random.Random) -> None:
    """Some outages are over before anybody's patience is, some are not."""
    time.sleep(rng.uniform(0.0, 2 * PATIENCE))


@pytest.mark.parametrize(("case", "strikes"), [("a writer", one_writer), ("all writers at once", all_writers)])
def test_writers_are_killed(case, strikes, sqlite_url, tmp_path, table):
    accept(storm(case, sqlite_url, tmp_path, strikes), table, case, "SQLite")


def test_writers_on_postgresql_are_killed(server, server_url, tmp_path, table):
    accept(storm("a writer", server_url, tmp_path, one_writer), table, "a writer", "PostgreSQL")


def test_postgresql_is_stopped_at_once(server, server_url, tmp_path, table):
    def strikes(rng, _):
        def strike():
            server.stop_immediately()
            outage(rng)
            server.start()

        return [strike]

    accept(storm("stop -m immediate", server_url, tmp_path, strikes, server), table, "stop -m immediate", "PostgreSQL")


def test_the_processes_of_the_database_machine_are_killed(server, server_url, tmp_path, table):
    def strikes(rng, _):
        def strike():
            server.kill()
            outage(rng)
            server.start()

        return [strike]

    accept(storm("kill -9 of the server", server_url, tmp_path, strikes, server), table, "kill -9 of the server", "PostgreSQL")


def test_everything_is_killed(server, server_url, tmp_path, table):
    def strikes(rng, writers):
        def all_at_once():
            writers.kill_all()
            server.kill()
            server.start()
            writers.start_all()

        def a_writer_while_the_server_is_down():
            server.stop_immediately()
            time.sleep(rng.uniform(0.0, PATIENCE))
            writers.kill(rng.randrange(len(writers)))
            outage(rng)
            server.start()

        return [all_at_once, a_writer_while_the_server_is_down, *one_writer(rng, writers)]

    accept(storm("everything", server_url, tmp_path, strikes, server), table, "everything", "PostgreSQL")


def test_the_server_flushes_what_it_confirms(server, server_url):
    """Without this, none of the above says anything about a machine that loses power."""
    from sqlalchemy import text

    def settings(connection):
        return [connection.execute(text(f"SHOW {name}")).scalar() for name in ("fsync", "synchronous_commit", "full_page_writes")]

    assert AuditStore(server_url).database.transact(settings, write=False) == ["on", "on", "on"]
