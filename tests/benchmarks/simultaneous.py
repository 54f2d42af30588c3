"""Many trainings of one model asked for at once, each with what follows: validation, promotion, two answers. Is anything lost?

    python tests/benchmarks/simultaneous.py --runs 100           steps as processes of this machine
    python tests/benchmarks/simultaneous.py --runs 30 --cluster  as pods: KUBECONFIG and AIRGATE_STEPS_IMAGE

Starts an installation of its own under /tmp and removes it. Exit code 1 when something is lost or doubled, also in the log.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "include")]

import httpx  # noqa: E402
from tests.flight.place import Place  # noqa: E402

from airgate.contracts.runs import FLOWS, dag_id  # noqa: E402
from airgate.platform.story import GUARD, MODEL, UPKEEP, Story  # noqa: E402

DAYS = [f"2026-01-{day:02}" for day in range(3, 9)]
LIFE = ("training", "validation", "promotion")
SETTLE = 60  # seconds without anything under way: then nothing follows any more


def place_for(base: Path, cluster: bool) -> Place:
    if not cluster:
        return Place(base)
    from tests.kubernetes.outages import PodPlace

    return PodPlace(base, os.environ["AIRGATE_STEPS_IMAGE"])


def states(place: Place, flow: str) -> "Counter[str]":
    """How many runs of the flow are in which state."""
    found: Counter[str] = Counter()
    while True:
        page = place.admin.get(f"dags/{dag_id(MODEL, flow)}/dagRuns", limit=100, offset=found.total())["dag_runs"]
        if not page:
            return found
        found.update(run["state"] for run in page)


def fly(place: Place, runs: int) -> float:
    """Ask for all, answer what asks, and give the seconds until nothing is under way any more."""
    place.ready(*(dag_id(MODEL, flow) for flow in FLOWS), UPKEEP, GUARD)
    story = Story(place.admin, {name: place.people[name] for name in ("mia", "ana", "omar")}, lambda _: None)
    began = last = time.monotonic()
    for number in range(runs):
        place.start("mia", dag_id(MODEL, "training"), day=DAYS[number % len(DAYS)])
    print(f"{runs} trainings asked for in {time.monotonic() - began:.1f} s", flush=True)
    told = 0.0
    while time.monotonic() - last < SETTLE:
        story.answer_open()
        now = {flow: states(place, flow) for flow in LIFE}
        if any(state in ("queued", "running") for of_flow in now.values() for state in of_flow):
            last = time.monotonic()
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{told - began:6.0f} s  " + "   ".join(f"{flow} {dict(of_flow)}" for flow, of_flow in now.items()), flush=True)
        time.sleep(1)
    return last - began


def account(place: Place, runs: int) -> list[str]:
    """Print what became of all, and give what is wrong with it."""
    trainings = {flow: states(place, flow) for flow in LIFE}
    done = place.audit.events(dag_id=dag_id(MODEL, "training"), kind="task.succeeded", task_id="register")
    registered = Counter(one.event.task.run_id for one in done if one.event.task)
    verdicts = Counter(one.event.version for one in place.audit.events(kind="gate.verdict"))
    requests = Counter(one.event.version for one in place.audit.events(kind="promotion.requested"))
    moved = Counter(one.event.version for one in place.audit.events(kind="stage.moved"))
    refused = Counter(one.event.version for one in place.audit.events(kind="promotion.refused"))
    versions = httpx.get(f"{place.settings()['AIRGATE_MLFLOW_URI']}/api/2.0/mlflow/model-versions/search",
                         params={"filter": f"name='{MODEL}'", "max_results": 10_000}).json().get("model_versions", [])
    started = sum(trainings["training"].values())
    print(f"trainings {dict(trainings['training'])}, registered {registered.total()}, versions in MLflow {len(versions)}")
    print(f"validations {dict(trainings['validation'])}, verdicts {verdicts.total()}, never judged {runs - len(verdicts)}")
    print(f"promotions {dict(trainings['promotion'])}, requests {requests.total()}, moved {moved.total()}, "
          f"refused {refused.total()}; events {place.audit.head()[0]}")
    ended = moved + refused
    wrong = {
        f"{started} trainings for {runs} asked for": started != runs,
        "trainings that did not succeed": set(trainings["training"]) != {"success"},
        "a run that registered more or less than one version": len(registered) != runs or set(registered.values()) != {1},
        "MLflow has other versions than were registered": len(versions) != runs,
        # Asset events that come together make one run of validation, which judges the newest candidate of them.
        "a version with more than one verdict": max(verdicts.values(), default=1) > 1,
        "a request with more or less than one end": requests != ended or max(ended.values(), default=1) > 1,
    }
    return [what for what, is_so in wrong.items() if is_so]


def main() -> int:
    """Fly, count, verify."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--cluster", action="store_true")
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="airgate-many-", dir="/tmp"))
    place = place_for(base, given.cluster)
    try:
        place.up()
        seconds = fly(place, given.runs)
        print(f"all done after {seconds:.0f} s")
        wrong = account(place, given.runs)
        print(place.verified(120))
    finally:
        place.down()
    for what in wrong:
        print(f"WRONG: {what}")
    if not wrong:
        shutil.rmtree(base)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
