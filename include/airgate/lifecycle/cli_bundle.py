"""`airgate bundle`: export, verify, import. docs/bundles.md walks through it."""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from airgate import settings
from airgate.airflow_api import AirflowApi
from airgate.audit.cli_keep import me
from airgate.audit.event import AuditEvent, event_id_of
from airgate.audit.store import AuditStore
from airgate.command_line import say
from airgate.contracts import digests
from airgate.contracts.model_spec import SPEC_FILE
from airgate.contracts.runs import dag_id
from airgate.errors import AirgateError, BundleError, ConfigError
from airgate.governance import identities
from airgate.lifecycle import bundle_check, bundle_sources
from airgate.lifecycle.bundle_check import Checked
from airgate.settings import Settings

DAYS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    export = verbs.add_parser("export", help="write a version, with everything that another installation needs to judge it")
    export.add_argument("version", metavar="MODEL@VERSION", help="for example diagnosis_classifier@3")
    export.add_argument("file", type=Path, metavar="FILE", help="a new file")
    export.add_argument("--days", type=_days, default=DAYS, help=f"how long it may be imported (default {DAYS}, at most 366)")
    verify = verbs.add_parser("verify", help="verify a bundle as the import does; nothing is kept and nothing recorded")
    verify.add_argument("file", type=Path, metavar="FILE")
    take = verbs.add_parser("import", help="verify a bundle, put it into the artifact store, and start the model's import")
    take.add_argument("file", type=Path, metavar="FILE")
    take.add_argument("--no-start", action="store_true", help="do not start the DAG: somebody does so in Airflow's UI")


def run(args: argparse.Namespace) -> int:
    """Do what was asked and give the exit code. Raises AirgateError where it cannot be done, or the bundle is refused."""
    return {"export": _export, "verify": _verify, "import": _import}[args.verb](args)


def _export(args: argparse.Namespace) -> int:
    from airgate.lifecycle.bundle_export import export

    model, at, version = args.version.partition("@")
    if not at or not version.isdecimal():
        raise ConfigError(f"'{args.version}' names no version; write MODEL@VERSION, such as diagnosis_classifier@3. An alias "
                          "moves, so name the number")
    now = settings.load()
    made = export(now, AuditStore(now.audit_url), model, version, args.file, by=me(), valid=timedelta(days=args.days))
    say(f"{made.path}: {made.size} bytes; {_line(made.checked)}")
    say(f"it may be imported until {made.checked.statement.manifest.expires_at:%Y-%m-%d %H:%M} UTC")
    return 0


def _verify(args: argparse.Namespace) -> int:
    say(f"ok: {_line(_checked(args.file))}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from airgate.steps.store import ArtifactStore

    now = settings.load()
    try:
        checked = _checked(args.file)
        model = checked.statement.manifest.model
        if not (now.models / model / SPEC_FILE).is_file():
            raise BundleError("other model", f"it is of {model}, which this installation does not have: the model's folder with "
                              f"the gates and approvers of this installation must be there first ({now.models}/{model})")
    except BundleError as error:
        AuditStore(now.audit_url).append(_refusal(args.file, error))
        raise BundleError(error.reason, f"{args.file} is refused ({error.reason}): {error}") from None
    ref = ArtifactStore(now.artifact_store).put_file(args.file)
    say(f"ok: {_line(checked)}")
    say(f"the bundle is in the artifact store: {ref.digest}")
    _start(now, dag_id(model, "bundle_import"), ref.digest, start=not args.no_start)
    return 0


def _start(now: Settings, dag: str, digest: str, *, start: bool) -> None:
    by_hand = f"start the DAG {dag} in Airflow with bundle = {digest}"
    if not start:
        say(by_hand)
        return
    try:
        with AirflowApi.from_environment(now.airflow_api) as api:
            if identities.load(now.people).is_service(api.user):
                raise ConfigError(f"AIRGATE_API_USER is '{api.user}', a service account by people.yaml, and whoever imports a "
                                  "version asks for it: sign in as that person")
            made = api.post(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": {"bundle": digest}})
    except (httpx.HTTPError, ConfigError) as error:
        raise AirgateError(f"the import was not started: {error}. The bundle is in the store: {by_hand}") from None
    say(f"started {dag}, run {made['dag_run_id']}: the version is registered, judged by the gates of this installation, and "
        "on a pass its promotion is asked for here")


def _checked(path: Path) -> Checked:
    try:
        return bundle_check.check(path, bundle_sources.read(settings.load().bundle_sources))
    except OSError as error:
        raise BundleError("missing", f"{path} cannot be read: {error.strerror}") from None


def _refusal(path: Path, error: BundleError) -> AuditEvent:
    now = datetime.now(UTC)
    try:
        digest = digests.of_file(path)
    except OSError:
        digest = ""
    return AuditEvent(event_id=event_id_of("bundle.refused", digest, now.isoformat()), kind="bundle.refused", occurred_at=now,
                      actor=me(), source="cli", body={"bundle": digest, "reason": error.reason, "message": str(error)[:2000]})


def _line(checked: Checked) -> str:
    manifest = checked.statement.manifest
    key = "+".join(checked.key.split("+")[:2])
    return (f"{manifest.model} version {manifest.version} of {manifest.environment}, {len(checked.statement.files)} files, "
            f"signed by {key}; its log {manifest.origin} verifies up to {checked.checkpoint} events")


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 366:
        raise argparse.ArgumentTypeError(f"{days} is not allowed; give 1 to 366")
    return days
