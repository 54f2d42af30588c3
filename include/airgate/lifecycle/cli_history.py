"""`airgate model history` and `airgate model of-predictions`: what was live when, and which version made a file."""

import argparse
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgate.command_line import plain, say
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.stages import STAGES
from airgate.errors import ConfigError

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore
    from airgate.lifecycle.provenance import Origin

EXIT_DOUBT = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def add_subparsers(verbs: Any) -> None:
    """Declare the verbs below `airgate model`."""
    asked = verbs.add_parser("history", help="what was in a stage, when, and when that was known; exit 1 if a move is in doubt")
    asked.add_argument("model", metavar="MODEL")
    asked.add_argument("--at", type=moment, metavar="TIME", help="only what was there at this time (ISO 8601, UTC)")
    asked.add_argument("--known-at", type=moment, metavar="TIME", help="as the log knew it at this time (default: now)")
    asked.add_argument("--stage", default=PRODUCTION, help=f"one of {', '.join(STAGES)} (default: {PRODUCTION})")
    made = verbs.add_parser("of-predictions", help="which version made a prediction file, by the log; exit 1 if not confirmed")
    made.add_argument("file", metavar="FILE", help="a file that batch inference wrote, or its sha256:... where it is not here")
    made.add_argument("--model", help="for a digest, or a file that says nothing of itself")
    for verb in (asked, made):
        verb.add_argument("--json", action="store_true", help="with every proof, for programs")
        verb.add_argument("--url", help="the log's database (default: AIRGATE_AUDIT_URL)")


def run_history(args: argparse.Namespace) -> int:
    """Answer and give the exit code. Raises PromotionError for an unknown model or stage, AuditError as the log does."""
    from airgate.lifecycle import history_report

    found = history_report.report(_store(args), args.model, stage=args.stage, at=args.at, known_at=args.known_at)
    _say(history_report.as_json(found) if args.json else history_report.lines(found))
    return EXIT_DOUBT if found.history.doubts() else 0


def run_of_predictions(args: argparse.Namespace) -> int:
    """Answer and give the exit code. Raises DataError for a file that cannot be read, AuditError as the log does."""
    from airgate.lifecycle import provenance

    log = _store(args)
    if _DIGEST.fullmatch(args.file):
        if not args.model:
            raise ConfigError("a digest alone says nothing of its model: name it with --model")
        found = provenance.of_digest(log, args.model, args.file)
    else:
        found = provenance.of_file(log, Path(args.file), args.model)
    _say(provenance.as_json(found) if args.json else _lines(args.file, found))
    return 0 if found.confirmed else EXIT_DOUBT


RUNS: dict[str, Callable[[argparse.Namespace], int]] = {"history": run_history, "of-predictions": run_of_predictions}


def moment(text: str) -> datetime:
    """Read a time, UTC unless it names an offset. Raises ArgumentTypeError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no time; give ISO 8601, for instance 2026-01-08T14:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _lines(name: str, found: "Origin") -> list[str]:
    from airgate.lifecycle.history_report import moment as told
    from airgate.lifecycle.history_report import who

    lines = []
    if found.run is not None:
        task, body = found.run.event.task, found.run.event.body
        facts: Any = body.get("facts")
        lines.append(f"{name}: made by version {facts.get('model_version')} of {found.run.event.model}")
        lines.append(f"  files {facts.get('model_digest')}")
        if task is not None:
            lines.append(f"  by run {task.run_id} of {task.dag_id}, task {task.task_id}, try {task.try_number}, recorded at "
                         f"{told(found.run.stored_at)} UTC (event {found.run.seq})")
    else:
        lines.append(f"{name}: NOT CONFIRMED")
    if found.period is not None:
        until = told(found.period.end) if found.period.end else "now"
        by = ", ".join(who(found.period.began))
        lines.append(f"  in production from {told(found.period.start)} until {until}: {found.period.began.body.cause}"
                     f"{f' by {by}' if by else ''} (event {found.period.began.seq})")
    return [*lines, f"  digest {found.digest}", *(f"DOUBT: {problem}" for problem in found.problems), found.evidence.line()]


def _store(args: argparse.Namespace) -> "AuditStore":
    from airgate import settings
    from airgate.audit.store import AuditStore

    return AuditStore(args.url or settings.load().audit_url)


def _say(told: dict[str, Any] | list[str]) -> None:
    """One JSON document, or lines that are safe for a terminal."""
    if isinstance(told, dict):
        say(json.dumps(told, ensure_ascii=False))
        return
    for line in told:
        say(plain(line))
