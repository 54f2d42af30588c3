"""`airgate store`: draw a key, see which keys artifacts and models need, wrap their data keys with the current one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from airgate import settings
from airgate.command_line import say
from airgate.encryption import keys, mlflow_copies, rotation
from airgate.errors import ConfigError

EXIT_UNREADABLE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the words after `airgate store`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("status", help="which keys wrap how many data keys, and what is stored plain")
    actions.add_parser("rotate", help="wrap every data key with the current key; no artifact is rewritten")
    keygen = actions.add_parser("keygen", help="draw a key and put it into a file, below the keys that are there")
    keygen.add_argument("file", type=Path, metavar="FILE", help="made with mode 0600 where there is none")
    keygen.add_argument("name", metavar="NAME", help="the key's name, for example 2026-01")


def run(args: argparse.Namespace) -> int:
    """Carry out one action and give its exit code: 1 when a data key cannot be read with the keys that are here."""
    return {"status": _status, "rotate": _rotate, "keygen": _keygen}[args.action](args)


def _status(_: argparse.Namespace) -> int:
    now, held = settings.load(), keys.from_settings()
    found = rotation.status(now.artifact_store.rstrip("/"))
    versions, wraps = mlflow_copies.wrapped_by(now.mlflow_uri)
    wraps.update(found.wrapped_by)
    say(f"{found.encrypted} files are stored encrypted, {found.plain} plain; {versions} versions are encrypted in MLflow")
    for line in rotation.key_lines(wraps, held):
        say(line)
    return 0 if not wraps or (held is not None and all(map(held.holds, wraps))) else EXIT_UNREADABLE


def _rotate(_: argparse.Namespace) -> int:
    now, held = settings.load(), keys.from_settings()
    if held is None:
        raise ConfigError("no keys are configured, so there is nothing to rotate to: set AIRGATE_STORE_KEYS to file:PATH, "
                          "env:VARIABLE or kms:MODULE:FACTORY?ARGUMENT, the new key first")
    done = rotation.rotate(now.artifact_store.rstrip("/"), held) + mlflow_copies.rotate(now.mlflow_uri, held)
    for line in done.failed:
        sys.stderr.write(f"airgate: {line}\n")
    say(f"{done.rewrapped} data keys wrapped with {held.current}, {done.current} were so already, "
           f"{len(done.failed)} cannot be read")
    return EXIT_UNREADABLE if done.failed else 0


def _keygen(args: argparse.Namespace) -> int:
    line, there = keys.new_line(args.name), args.file.exists()
    ring = keys.parse(args.file.read_text(encoding="ascii"), str(args.file)) if there else None
    if ring is not None and ring.holds(args.name):
        raise ConfigError(f"{args.file} has a key named '{args.name}' already; a key is never replaced. Choose another name")
    _append(args.file, line)
    if ring is None:
        say(f"{args.file}: the key {args.name}. Set AIRGATE_STORE_KEYS=file:{args.file.absolute()}. Whoever loses this file "
               "loses what was stored: keep a copy elsewhere, away from the store")
    else:
        say(f"{args.file}: the key {args.name}, below {ring.current}, which stays the current one. When every process has the "
               "file, move the new line to the top and run `airgate store rotate`")
    return 0


def _append(path: Path, line: str) -> None:
    """Add a line, durable before this returns: data keys will depend on it."""
    try:
        before = path.read_bytes() if path.exists() else b""
        if before and not before.endswith(b"\n"):
            line = "\n" + line
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
