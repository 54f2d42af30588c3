"""`airgate demo`: start what is needed, fly the story through the running Airflow, and sum up."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx

from airgate import settings
from airgate.airflow_api import AirflowApi
from airgate.errors import ConfigError, StepError
from airgate.platform import cluster, environment, layout, summary, up
from airgate.platform.credentials import WHO
from airgate.platform.environment import Installation
from airgate.platform.output import say
from airgate.platform.story import MODEL, Story

ACTORS = ("mia", "ana", "omar")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two options: who answers the approvals, and where steps run."""
    parser.add_argument("--interactive", action="store_true", help="wait for people to approve in the UI")
    parser.add_argument("--cluster", action="store_true", help="run steps as pods of the cluster that KUBECONFIG names, in the "
                        "image that AIRGATE_STEPS_IMAGE names")


def run(args: argparse.Namespace) -> int:
    """Fly it. Gives 0 only when every run succeeded, both promotions went through, and the audit log verifies."""
    began = time.monotonic()
    say("Airgate demo: one model's life, from data to its replacement after drift, through a running Airflow.")
    if args.cluster:
        cluster.choose(layout.find())
    installation = up.start(meanwhile=prepare_data)
    ready = time.monotonic()
    environment.adopt(installation.layout)
    story, good = _fly(installation, interactive=args.interactive, began=ready)
    say()
    for line in _farewell(installation):
        say(line)
    say(f"{len(story.legs)} DAG runs in {time.monotonic() - ready:.0f} s, {time.monotonic() - began:.0f} s with the start")
    return 0 if good else 1


def prepare_data(installation: Installation) -> None:
    """Make the demo's data repository; one that is there stays as it is. Raises ConfigError with what went wrong."""
    remote = ["--remote", f"s3://{cluster.BUCKET}/data"] if installation.cluster else []
    done = subprocess.run(
        [sys.executable, "-m", "airgate.steps.demo_data", str(installation.layout.data), *remote], cwd=installation.layout.root,
        env=environment.for_steps(installation), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(f"the demo's data could not be prepared:\n{done.stderr.strip()[-2000:]}")


def _fly(installation: Installation, *, interactive: bool, began: float) -> tuple[Story, bool]:
    from airgate.audit.airflow_account import RestAccount
    from airgate.audit.anchors import open_anchors
    from airgate.audit.mlflow_account import MlflowAccount
    from airgate.audit.store import AuditStore

    audit = AuditStore(os.environ["AIRGATE_AUDIT_URL"])
    before = audit.head()[0]
    passwords = installation.credentials.passwords
    with ExitStack() as sessions:
        people = {name: sessions.enter_context(AirflowApi(installation.airflow_url, name, passwords[name]))
                  for name in (*ACTORS, "admin")}
        story = Story(people["admin"], {name: people[name] for name in ACTORS}, _teller(began), interactive)
        try:
            story.fly()
        except httpx.TransportError as error:
            raise StepError(f"Airflow at {installation.airflow_url} stopped answering ({error}). `make status` and "
                            "`make logs` show why; `make demo` again goes on.") from None
    events = audit.events(after=before - 1)
    verdict = summary.audit_verdict(audit, RestAccount.from_environment(), MlflowAccount.from_environment(),
                                    open_anchors(settings.load().audit_anchors))
    _table("DAG runs", summary.runs(story.legs))
    _table("Model versions and their gates", summary.versions(events))
    _table("Promotions", summary.approvals(events))
    _table("Drift", summary.drift(events))
    _table("Predictions", summary.predictions(story.predictions))
    _table("Audit log", verdict.lines())
    return story, verdict.ok and summary.predictions_are_there(story.predictions)


def _teller(began: float) -> Callable[[str], None]:
    def tell(text: str) -> None:
        say(f"[{time.monotonic() - began:5.1f} s] {text}" if text else "")

    return tell


def _table(title: str, lines: Iterator[str]) -> None:
    say()
    say(title)
    for line in lines:
        say(f"  {line}")


def _farewell(installation: Installation) -> Iterator[str]:
    yield f"Look around: Airflow {installation.airflow_url}   MLflow {installation.mlflow_url}   model {MODEL}"
    for name, who in WHO.items():
        if name != "airgate":
            yield f"  {name:6} {installation.credentials.passwords[name]:14} {who}"
    yield f"  (kept in {installation.layout.passwords}, which only you can read)"
    yield "An auditor's copy: `scripts/airgate audit export FOLDER`; docs/auditor.md says how an outsider verifies it."
    home = installation.layout.home
    if (pods := installation.cluster) is None:
        yield f"Once more: `make demo` adds versions. `make down` stops everything; data stay in {home}."
    else:
        yield f"`AIRGATE_HOME={home} make down` stops everything; artifacts are gone with the S3 server, so delete {home} then,"
        yield f"and `kubectl delete namespace {pods.namespace}` in the cluster."
