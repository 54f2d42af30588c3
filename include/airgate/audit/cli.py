"""`airgate audit`: create, verify, show, sweep, drain. Those that keep the log stand in `cli_keep`, those that hand it
out in `cli_export`."""

import argparse
import json
from datetime import timedelta
from pathlib import Path

from airgate import settings
from airgate.audit import cli_export, cli_keep
from airgate.audit.completeness import AirflowAccount
from airgate.audit.entry import StoredEvent
from airgate.audit.event import KINDS, canonical, time_text
from airgate.audit.store import AuditStore
from airgate.audit.versions import RegistryAccount
from airgate.command_line import plain, say
from airgate.errors import AuditError, nearest

EXIT_TAMPERED = 1
EXIT_INCOMPLETE = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="make the log's tables, or bring those of an older release up to date")
    create.add_argument("--writer", metavar="ROLE", help="grant this PostgreSQL role what Airflow's processes need, and no more")
    verify = verbs.add_parser("verify", help="hash the whole log again; exit 0 ok, 1 tampered, 3 incomplete")
    verify.add_argument("--anchors", action="store_true", help="also ask the anchors for the checkpoints they hold")
    verify.add_argument("--complete", action="store_true", help="also compare it with what Airflow and MLflow say happened")
    show = verbs.add_parser("show", help="list events, the newest last")
    show.add_argument("--model", help="only of this model")
    show.add_argument("--dag", help="only of this DAG")
    show.add_argument("--run", help="only of this DAG run id")
    show.add_argument("--kind", help="only of this kind: " + ", ".join(KINDS))
    show.add_argument("--limit", type=_positive, default=50, help="the last N events (default 50)")
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    sweep = verbs.add_parser("sweep", help="add what Airflow says happened and the log lacks, marked as recovered; exit 3 if "
                           "something cannot be explained")
    sweep.add_argument("--settle", type=float, default=0.0, metavar="SECONDS", help="leave what ended later")
    drain = verbs.add_parser("drain", help="record what waits in the spool of this machine; exit 0 all, 3 some is left")
    drain.add_argument("--spool", type=Path, metavar="FOLDER", help="the spool (default: AIRGATE_AUDIT_SPOOL)")
    cli_keep.add_arguments(verbs)
    cli_export.add_arguments(verbs)
    for name, verb in verbs.choices.items():
        variable = "AIRGATE_AUDIT_OWNER_URL, then AIRGATE_AUDIT_URL" if name in cli_keep.OWNER else "AIRGATE_AUDIT_URL"
        verb.add_argument("--url", help=f"the log's database (default: {variable})")


def run(args: argparse.Namespace) -> int:
    """Do what was asked and give the exit code. Raises AuditError or ConfigError where it cannot be done."""
    if args.verb == "keygen":
        return cli_keep.keygen(args)
    now = settings.load()
    store = AuditStore(args.url or (now.audit_owner_url if args.verb in cli_keep.OWNER else now.audit_url))
    if args.verb in cli_export.VERBS:
        return cli_export.run_export(store, args)
    runs = {"create": _create, "verify": _verify, "show": _show, "sweep": _sweep, "drain": _drain} | cli_keep.RUNS
    return runs[args.verb](store, args)


def _create(store: AuditStore, args: argparse.Namespace) -> int:
    store.create()
    if args.writer:
        store.grant(args.writer)
    from airgate.audit.erasure import erased_again

    for subject in erased_again(store):
        say(f"erased again, an older backup had brought it back: the subject {subject}")
    say(f"audit log at {store.where}: {store.head()[0]} events")
    return 0


def _verify(store: AuditStore, args: argparse.Namespace) -> int:
    from airgate.audit import trust
    from airgate.audit.anchors import open_anchors

    report = trust.verify(store, trust.configured_key(), open_anchors(settings.load().audit_anchors) if args.anchors else ())
    for line in report.lines():
        say(line)
    say(f"{report.integrity.size} events, root {report.integrity.root.hex()}")
    if not args.complete:
        return 0 if report.ok else EXIT_TAMPERED
    from airgate.audit.stage_moves import unannounced
    from airgate.audit.sweep import compare

    found = compare(*_accounts(store))
    found.unexplained += unannounced(store)
    say(found.line())
    for line in found.verdict():
        say(line)
    if not report.ok:
        return EXIT_TAMPERED
    return EXIT_INCOMPLETE if found.added or found.unexplained else 0


def _sweep(store: AuditStore, args: argparse.Namespace) -> int:
    from airgate.audit.sweep import sweep

    report = sweep(*_accounts(store), settle=timedelta(seconds=args.settle))
    say(f"{report.line()}, {len(report.added)} events added")
    for record in report.added:
        say(f"  {record.line()}")
    for line in report.doubts():
        say(line)
    return EXIT_INCOMPLETE if report.unexplained else 0


def _drain(store: AuditStore, args: argparse.Namespace) -> int:
    from airgate.audit.spool import Spool

    report = Spool(args.spool or settings.load().audit_spool).drain(store)
    say(report.line())
    return EXIT_INCOMPLETE if report.left else 0


def _show(store: AuditStore, args: argparse.Namespace) -> int:
    if args.kind and args.kind not in KINDS:
        raise AuditError(f"there is no event kind '{args.kind}'; {nearest(args.kind, KINDS)}")
    found = store.events(
        model=args.model, dag_id=args.dag, run_id=args.run, kind=args.kind, limit=args.limit, newest_first=True
    )[::-1]
    if args.json:
        for stored in found:
            say(_as_json(stored))
        return 0
    rows = [("seq", "time (UTC)", "kind", "who", "what"), *map(_as_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        say("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip())
    return 0


def _as_json(stored: StoredEvent) -> str:
    record = {"event": json.loads(canonical(stored.event)), "seq": stored.seq, "stored_at": time_text(stored.stored_at)}
    return json.dumps(record | {"leaf_hash": stored.leaf_hash.hex()}, ensure_ascii=False)


def _as_row(stored: StoredEvent) -> tuple[str, str, str, str, str]:
    event, task = stored.event, stored.event.task
    what = [f"{event.model}{f' v{event.version}' if event.version else ''}"] if event.model else []
    if task:
        mapped = f"[{task.map_index}]" if task.map_index >= 0 else ""
        what.append(f"{task.dag_id} {task.run_id} {task.task_id}{mapped} try {task.try_number}")
    elif event.body.get("dag_id"):
        what.append(" ".join(str(event.body[key]) for key in ("dag_id", "run_id") if event.body.get(key)))
    for key in ("change", "alarm", "passed", "state", "stage", "reason", "error", "message"):
        if event.body.get(key) is not None:
            what.append(f"{key}={_short(event.body[key])}")
    if event.recovered:
        what.append("recovered")
    time = time_text(event.occurred_at)[:19].replace("T", " ")
    return str(stored.seq), time, event.kind, plain(f"{event.actor.kind}:{event.actor.name}"), plain(", ".join(what))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _accounts(store: AuditStore) -> tuple[AirflowAccount, AuditStore, RegistryAccount]:
    from airgate.audit.airflow_account import RestAccount
    from airgate.audit.mlflow_account import MlflowAccount

    return RestAccount.from_environment(), store, MlflowAccount.from_environment()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not allowed; give 1 or more")
    return value
