"""`airgate model`: verify and sign versions, and the keys for it; history and provenance stand in `cli_history`."""

import argparse
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from airgate import settings
from airgate.command_line import plain, say
from airgate.errors import ConfigError, PromotionError
from airgate.lifecycle import cli_history

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore
    from airgate.lifecycle.model_verification import Verification

EXIT_FAILED = 1
_NAMED = re.compile(r"(?P<model>[a-z][a-z0-9_]{0,62})@(?P<version>[0-9]{1,18})")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verify = verbs.add_parser("verify", help="signature, record, files; for a version in a stage also request, approvals and "
                              "stage; exit 0 ok, 1 failed")
    verify.add_argument("--stage", help="it must be in this stage (default: the one it is in by the log, if any)")
    verify.add_argument("--without-files", action="store_true", help="do not fetch the files from MLflow")
    signing = verbs.add_parser("sign", help="sign a version that is on record and was never signed, or by another key")
    signing.add_argument("--before", type=int, metavar="SIZE", help="also sign what a checkpoint of this size covers and no "
                         "signature counts for: promotions of release 0.2.0, after you asked those who approved")
    export = verbs.add_parser("export-signature", help="write a signature that OpenSSF's model signing verifies")
    for verb in (verify, signing, export):
        verb.add_argument("named", metavar="MODEL@VERSION")
        verb.add_argument("--url", help="the log's database (default: AIRGATE_AUDIT_URL)")
    export.add_argument("file", type=Path, metavar="FILE", help="where to write it: model.sig")
    export.add_argument("--key", required=True, metavar="SOURCE", help="a P-256 key in PEM: file:PATH or env:VARIABLE")
    keygen = verbs.add_parser("keygen", help="make a key for AIRGATE_MODEL_KEY")
    keygen.add_argument("file", type=Path, metavar="FILE")
    verbs.add_parser("key", help="print this installation's public key, for the AIRGATE_MODEL_TRUST of others")
    cli_history.add_subparsers(verbs)


def run(args: argparse.Namespace) -> int:
    """Do what was asked and give the exit code. Raises an AirgateError where it cannot be done."""
    verbs: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "verify": verify, "sign": sign, "export-signature": export_signature, "keygen": keygen, "key": key,
        "history": cli_history.run_history, "of-predictions": cli_history.run_of_predictions}
    return verbs[args.verb](args)


def verify(args: argparse.Namespace) -> int:
    """Verify a version and print one line a check."""
    model, version = _named(args.named)
    found = _verified(_store(args), model, version, args.stage, with_files=not args.without_files)
    for line in found.lines():
        say(plain(line))
    say(f"{args.named}: {'verified' if found.ok else 'NOT VERIFIED'}{f' in {found.stage}' if found.stage else ''}")
    return 0 if found.ok else EXIT_FAILED


def sign(args: argparse.Namespace) -> int:
    """Sign what the log has of a version: its registration, its promotions and moves; print what verifies then."""
    from airgate.audit.cli_keep import me
    from airgate.audit.registrations import known
    from airgate.audit.registry_state import RegistryState
    from airgate.lifecycle import resign

    model, version = _named(args.named)
    log = _store(args)
    registered = known(log, RegistryState(model)).registrations.get(version)
    if registered is None:
        raise PromotionError(f"the audit log has no register step of {model} version {version}, so there is nothing to sign it "
                             "on. Train it again.")
    with tempfile.TemporaryDirectory(prefix="airgate-") as folder:
        files = _files(model, version, Path(folder), registered.source)
    signed = resign.sign_version(log, model, version, files, args.before, actor=me(), source="cli")
    for event in signed:
        say(plain(f"signed: {event.body['statement']} of {args.named}, by {event.body['key']}"))
    if not signed:
        say(f"{args.named} is signed already, by this installation's key")
    found = _verified(log, model, version, None, with_files=False)
    for line in found.lines():
        say(plain(line))
    return 0 if found.ok else EXIT_FAILED


def export_signature(args: argparse.Namespace) -> int:
    """Write an OpenSSF signature over the files that were signed at registration, once they verify."""
    from airgate.signatures import oms

    model, version = _named(args.named)
    found = _verified(_store(args), model, version, None, with_files=True).require()
    if found.registration is None:
        raise PromotionError(f"{args.named} has no signature that verifies")
    bundle = oms.bundle(f"{model}@{version}", found.registration.files, args.key)
    try:
        with args.file.open("x", encoding="utf-8") as file:
            file.write(json.dumps(bundle))
    except OSError as error:
        raise ConfigError(f"{args.file} cannot be written: {error.strerror}. Name another file.") from None
    say(f"{args.file}: verify it with `model_signing verify key FOLDER --signature {args.file} --public_key PUBLIC_KEY`")
    return 0


def keygen(args: argparse.Namespace) -> int:
    """Make a key and say what to do with it."""
    from airgate.signatures import keys, private_key

    private_key.write_new(args.file)
    public = keys.signer(f"file:{args.file}", settings.load().environment).public
    say(f"{args.file}: set AIRGATE_MODEL_KEY to file:{args.file.absolute()} for Airflow's processes, never for steps. Its "
        f"public key for {public.name}, for the AIRGATE_MODEL_TRUST of others:")
    say(public.text())
    return 0


def key(_: argparse.Namespace) -> int:
    """Print the public key of AIRGATE_MODEL_KEY under the name of AIRGATE_ENVIRONMENT."""
    from airgate.signatures import keys

    now = settings.load()
    say(keys.signer(now.model_key, now.environment).public.text())
    return 0


def _verified(log: "AuditStore", model: str, version: str, stage: str | None, *, with_files: bool) -> "Verification":
    from airgate.governance import stages
    from airgate.lifecycle.model_verification import Check, trusted, verify_version
    from airgate.registry.versions import Registry
    from airgate.signatures.statement import Registration

    stage = stage or stages.read(log, model).stage_of(version)
    # Nobody approves an archiving, or puts a signature to it.
    stage = None if stage == "archived" else stage
    registry = Registry(settings.load().mlflow_uri)
    found = verify_version(log, trusted(), model, version, stage=stage, registry=registry)
    said = found.registration.predicate if found.registration else None
    if not with_files:
        return found
    if not isinstance(said, Registration):
        found.checks.append(Check("files", False, "not fetched: no signature that counts says where they are"))
        return found
    with tempfile.TemporaryDirectory(prefix="airgate-") as folder:
        files = _files(model, version, Path(folder), said.source or None)
    return verify_version(log, trusted(), model, version, stage=stage, registry=registry, files=files)


def _files(model: str, version: str, folder: Path, source: str | None) -> Mapping[str, str]:
    """The manifest of the files in MLflow, fetched from where the record says that they are, if it says."""
    from airgate.steps.download import download

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it would stand among the lines
    return download(settings.load().mlflow_uri, model, version, folder, source=source).files


def _named(text: str) -> tuple[str, str]:
    found = _NAMED.fullmatch(text)
    if found is None:
        raise ConfigError(f"'{text[:100]}' names no version; allowed: MODEL@VERSION, such as diagnosis_classifier@3. An alias "
                          "moves; name the version it stands for")
    return found["model"], found["version"]


def _store(args: argparse.Namespace) -> "AuditStore":
    from airgate.audit.store import AuditStore

    return AuditStore(args.url or settings.load().audit_url)
