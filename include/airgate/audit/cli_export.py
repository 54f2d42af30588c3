"""`airgate audit`, the verbs that hand the log out: export, proof."""

import argparse
import json
from pathlib import Path
from typing import Any

from airgate import settings
from airgate.audit.store import AuditStore
from airgate.command_line import say
from airgate.errors import ConfigError

VERBS = ("export", "proof")


def add_arguments(verbs: Any) -> None:
    """Declare the verbs."""
    export = verbs.add_parser("export", help="write the log into a folder that `airgate-verify` checks without us")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="a new or empty folder")
    export.add_argument("--readable", action="store_true", help="also the events with names and personal texts opened")
    export.add_argument("--complete", action="store_true", help="also what Airflow says happened (REST API)")
    export.add_argument("--model", help="only this model's events, each with its proof")
    export.add_argument("--run", help="only the events of this DAG run id, each with its proof")
    proof = verbs.add_parser("proof", help="prove that an event is in the log (JSON; RFC 9162, 2.1.3)")
    proof.add_argument("seq", type=int, metavar="SEQ", help="its number")
    proof.add_argument("--size", type=int, help="the size of the tree, for instance a checkpoint's (default: the whole log)")


def run_export(store: AuditStore, args: argparse.Namespace) -> int:
    """Do what was asked and give the exit code. Raises AuditError or ConfigError where it cannot be done."""
    return {"export": _export, "proof": _proof}[args.verb](store, args)


def _export(store: AuditStore, args: argparse.Namespace) -> int:
    if args.model or args.run:
        return _extract(store, args)
    from airgate.audit.export import export

    account = None
    if args.complete:
        from airgate.audit.airflow_account import RestAccount

        account = RestAccount.from_environment()
    made = export(store, args.folder, origin=settings.load().audit_origin, readable=args.readable, account=account)
    told = f", {made.runs} runs and {made.tries} task tries told by Airflow" if account else ""
    say(f"{made.folder}: {made.size} events, {made.checkpoints} checkpoints{told}")
    if not made.checkpoints:
        say("nothing of it is signed: `airgate audit checkpoint` signs the log")
    return 0


def _extract(store: AuditStore, args: argparse.Namespace) -> int:
    if args.readable or args.complete:
        raise ConfigError("--model and --run select events with their proofs; --readable and --complete belong to a whole export")
    from airgate.audit.extract import extract

    made = extract(store, args.folder, origin=settings.load().audit_origin, model=args.model, run_id=args.run)
    say(f"{made.folder}: {made.events} events, proven under the checkpoint over {made.size}")
    if made.later:
        say(f"{made.later} came after it and were left out: `airgate audit checkpoint` signs them")
    return 0


def _proof(store: AuditStore, args: argparse.Namespace) -> int:
    from airgate.audit.proofs import inclusion

    say(json.dumps(inclusion(store, args.seq, args.size), ensure_ascii=False))
    return 0
