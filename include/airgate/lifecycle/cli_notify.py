"""`airgate notify`: who is told what, whether it would work, and a trial message."""

import argparse
import sys

from airgate import settings
from airgate.contracts import notifications
from airgate.contracts.notifications import TOPICS, Notifier
from airgate.errors import ConfigError
from airgate.lifecycle import notify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--send", action="store_true",
                        help="send a trial message to each; run it where tasks run, for their connections")


def run(args: argparse.Namespace) -> int:
    """Say one line for each notifier; give 1 when one would not work. Raises ConfigError for a missing or wrong file."""
    path = settings.load().notifications
    if path is None:
        raise ConfigError("AIRGATE_NOTIFICATIONS is not set, so nobody is told of anything. Copy "
                          "include/compliance/notifications.example.yaml, adapt it, and name the copy")
    failed = False
    for name, notifier in notifications.load(path).notifiers.items():
        topics = ", ".join(notifier.topics) if set(notifier.topics) != set(TOPICS) else "all topics"
        try:
            said = _try(name, notifier, args.send)
        except Exception as error:  # noqa: BLE001 - each service has its own errors
            failed, said = True, notify.said(error)
        sys.stdout.write(f"{name}: {topics}, {', '.join(notifier.models or ['all models'])}: {said}\n")
    return 1 if failed else 0


def _try(name: str, notifier: Notifier, send: bool) -> str:
    if not send:
        notify.build(name, notifier)
        return "ready"
    trial = notify.Notice(topic="stage.moved", model="trial", version="", environment=settings.load().environment,
                          text="This message is a trial, nothing happened.", link="")
    notify.deliver(name, notifier, trial)
    return "sent"
