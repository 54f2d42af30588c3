"""`airgate audit`, the verbs that keep the log: keys and checkpoints, people, retention."""

import argparse
import getpass
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgate import settings
from airgate.audit.event import Actor
from airgate.audit.store import AuditStore
from airgate.command_line import say
from airgate.errors import ConfigError

if TYPE_CHECKING:
    from airgate.audit.anchors import Anchor

# What changes or destroys is the owner's; the application's role may not.
OWNER = ("create", "erase", "hold", "release", "expire")


def add_arguments(verbs: Any) -> None:
    """Declare the verbs."""
    verbs.add_parser("keygen", help="draw a key that signs checkpoints").add_argument("file", type=Path)
    verbs.add_parser("keys", help="list the public keys that have signed, the oldest first")
    verbs.add_parser("checkpoint", help="sign the log as it is, and hand the checkpoint to the anchors")
    rotate = verbs.add_parser("rotate-key", help="let a new key sign; the one in AIRGATE_AUDIT_KEY vouches for it")
    rotate.add_argument("new", help="the new key: file:PATH or env:VARIABLE")
    for name, help_text in (("erase", "destroy the key under which a person's names and texts are encrypted"),
                            ("hold", "put a person under legal hold: erasing is refused"),
                            ("release", "end a legal hold")):
        verb = verbs.add_parser(name, help=help_text)
        verb.add_argument("subject", help="the person, by the name that the log knows (an Airflow user)")
        verb.add_argument("--reason", required=True, help="why; goes on record")
    expire = verbs.add_parser("expire", help="drop the contents of events whose time is over; hashes stay")
    expire.add_argument("--apply", action="store_true", help="do it; without this, say what would be dropped")
    expire.add_argument("--retention", type=Path, help="the retention file (default: AIRGATE_AUDIT_RETENTION)")


def keygen(args: argparse.Namespace) -> int:
    """Draw a key. Raises ConfigError where the file is there."""
    from airgate.audit import signing

    signing.write_new(args.file)
    key = signing.load(f"file:{args.file}", settings.load().audit_origin)
    say(f"{args.file}: set AIRGATE_AUDIT_KEY=file:{args.file.absolute()}")
    say(f"give this to whoever verifies, by another way than the log: {key.public.text()}")
    return 0


def keys(store: AuditStore, _args: argparse.Namespace) -> int:
    """List the public keys, the oldest first: a verifier needs the first, by another way than the log."""
    from airgate.audit import checkpoints

    for key in checkpoints.keys_in_force(store):
        say(key.text())
    return 0


def checkpoint(store: AuditStore, _args: argparse.Namespace) -> int:
    """Sign and anchor. Exit code 1 when an anchor failed."""
    from airgate.audit import checkpoints, signing

    now = settings.load()
    anchors = _agreeing(store)
    note = checkpoints.checkpoint(store, signing.load(now.audit_key, now.audit_origin))
    return _anchored(store, note.size, anchors)


def rotate_key(store: AuditStore, args: argparse.Namespace) -> int:
    """Rotate and anchor. Exit code 1 when an anchor failed."""
    from airgate.audit import checkpoints, signing

    now = settings.load()
    new = signing.load(args.new, now.audit_origin)
    anchors = _agreeing(store)
    note = checkpoints.rotate(store, signing.load(now.audit_key, now.audit_origin), new)
    say(f"from here on {new.public.text()} signs: set AIRGATE_AUDIT_KEY={args.new}")
    return _anchored(store, note.size, anchors)


def erase(store: AuditStore, args: argparse.Namespace) -> int:
    """Erase a person."""
    return _about(store, args, "erased", "erase")


def hold(store: AuditStore, args: argparse.Namespace) -> int:
    """Put a person under legal hold."""
    return _about(store, args, "held", "hold")


def release(store: AuditStore, args: argparse.Namespace) -> int:
    """End a legal hold."""
    return _about(store, args, "released", "release")


def expire(store: AuditStore, args: argparse.Namespace) -> int:
    """Say what is due, and drop it with --apply."""
    from airgate.audit import checkpoints, retention

    path = args.retention or settings.load().audit_retention
    times = retention.load(path) if path else retention.load()
    now = datetime.now(UTC)
    found = retention.due(store, times, now)
    for name, seqs in found.items():
        say(f"{name} ({times.classes[name].months} months): {len(seqs)} events, {seqs[0]} to {seqs[-1]}")
    if not args.apply:
        say(f"{sum(map(len, found.values()))} events are due; --apply drops their contents")
        return 0
    announced = retention.announce(store, times, now, by=me())
    if announced:
        checkpoint(store, args)
    signed = checkpoints.newest(store)
    say(f"{retention.drop(store, times, now, signed.size if signed else 0)} events lost their contents; their hashes stay")
    return 0


RUNS: dict[str, Callable[[AuditStore, argparse.Namespace], int]] = {
    "keys": keys, "checkpoint": checkpoint, "rotate-key": rotate_key, "erase": erase, "hold": hold, "release": release,
    "expire": expire}


def _about(store: AuditStore, args: argparse.Namespace, done: str, what: str) -> int:
    from airgate.audit import erasure

    act = {"erase": erasure.erase, "hold": erasure.hold, "release": erasure.release}[what]
    if not args.reason.strip():
        raise ConfigError("--reason is empty; say why, it goes on record")
    subject = act(store, args.subject, by=me(), reason=args.reason)
    say(f"{done}: the subject {subject}")
    return 0


def _agreeing(store: AuditStore) -> "list[Anchor]":
    from airgate.audit import trust
    from airgate.audit.anchors import open_anchors

    anchors = open_anchors(settings.load().audit_anchors)
    trust.require_agreement(store, anchors)
    return anchors


def _anchored(store: AuditStore, size: int, anchors: "list[Anchor]") -> int:
    from airgate.audit import checkpoints

    result = checkpoints.anchor_all(store, anchors)
    say(f"checkpoint of {size} events; {len(result.taken)} handed to anchors")
    for failure in result.failed:
        say(f"  not anchored, and on record: {failure}")
    return 1 if result.failed else 0


def me() -> Actor:
    """Whoever sits at this machine; its name there, which is not one of Airflow's."""
    return Actor(kind="outside", name=getpass.getuser())
