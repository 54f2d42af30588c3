"""An embedded installation for the flights: a copy of the checkout, a home and ports of its own, and what tests ask of it.

It is a copy so that a flight may put a broken model or a forbidden DAG into it, and so that no edit of the checkout
reaches it half-way.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from airgate.airflow_api import AirflowApi, task_path
from airgate.audit.event import AuditEvent
from airgate.audit.store import AuditStore
from airgate.platform import airflow_client as client
from airgate.platform.airflow_client import Leg, Question, Run

ROOT = Path(__file__).parents[2]
PARTS = ("dags", "plugins", "include", "airflow_settings.yaml")
LIMIT = 600  # seconds for one command; `up` takes 30 on two quiet cores
SECOND = "second_opinion"  # the flights' own model; see second_opinion.py
PATIENCE = 180  # seconds until what must come has come
HAND_OVER = "import sys; from airgate.cli import main; sys.exit(main())"


class Place:
    """The installation under `base`; `people` are sessions by user name, `audit` reads its log."""

    people: dict[str, AirflowApi]
    audit: AuditStore

    def __init__(self, base: Path) -> None:
        self.root, self.home = base / "checkout", base / "home"
        self.root.mkdir()
        for part in PARTS:
            source, target = ROOT / part, self.root / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, target)
        self.home.mkdir(mode=0o700)
        ports = dict(zip(("airflow", "mlflow", "postgres"), free_ports(3), strict=True))
        (self.home / "ports.json").write_text(json.dumps(ports))
        self._sessions = ExitStack()

    @property
    def models(self) -> Path:
        """The models folder."""
        return self.root / "include" / "models"

    @property
    def dags(self) -> Path:
        """The DAGs folder."""
        return self.root / "dags"

    def environment(self) -> dict[str, str]:
        """A shell's variables, without those of another Airflow or Airgate; with this one's once it has run."""
        strange = ("AIRGATE_", "AIRFLOW", "MLFLOW", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        return kept | self.settings() | {"AIRGATE_HOME": str(self.home), "PYTHONPATH": str(self.root / "include")}

    def settings(self) -> dict[str, str]:
        """What `airgate up` left for the other commands."""
        path = self.home / "environment"
        lines = path.read_text().splitlines() if path.exists() else []
        return {name: "".join(shlex.split(value)) for name, _, value in (line.partition("=") for line in lines)}

    def python(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run Python with the copy's code; give what it printed. Fails the test on another exit code than 0."""
        done = self._run([sys.executable, *arguments], cwd or self.root)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def airgate(self, *words: str) -> tuple[int, str]:
        """Run an `airgate` command; give its exit code and what it said."""
        done = self._run([sys.executable, "-c", HAND_OVER, *words], self.root)
        return done.returncode, done.stdout + done.stderr

    def _run(self, command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=cwd, env=self.environment(), capture_output=True, text=True, timeout=LIMIT,
                              check=False)

    def up(self) -> None:
        """Start it, with the demo's data, and sign everybody in."""
        with ThreadPoolExecutor(1) as beside:
            data = beside.submit(self.python, "-m", "airgate.steps.demo_data", str(self.home / "data"))
            code, said = self.airgate("up")
            data.result()
        assert code == 0, said
        self.sign_in()

    def sign_in(self) -> None:
        """Sessions for everybody, and the log."""
        settings = self.settings()
        self.people = {name: self._sessions.enter_context(AirflowApi(settings["AIRGATE_AIRFLOW_API"], name, self.password(name)))
                       for name in ("admin", "mia", "ana", "omar")}
        self.audit = AuditStore(settings["AIRGATE_AUDIT_URL"])

    def down(self) -> None:
        """Stop it, whatever state it is in."""
        self._sessions.close()
        code, said = self.airgate("down")
        assert code == 0, said

    def password(self, user: str) -> str:
        """A user's password."""
        return str(json.loads((self.home / "passwords.json").read_text())[user])

    @property
    def admin(self) -> AirflowApi:
        """The administrator's session."""
        return self.people["admin"]

    def ready(self, *dags: str) -> None:
        """Wait until Airflow knows the DAGs, and let them run."""
        client.wait_for_dags(self.admin, list(dags), PATIENCE)
        client.unpause(self.admin, list(dags))

    def start(self, user: str, dag: str, **conf: Any) -> Run:
        """A new run, asked for by a user."""
        return client.trigger(self.people[user], dag, conf)

    def finish(self, run: Run) -> Leg:
        """Wait for a run that must succeed. Raises StepError with the failed tasks and their logs."""
        return client.wait(self.admin, run, lambda task, state, seconds: None)

    def xcom(self, run: Run, task: str) -> Any:
        """A task's return value."""
        return client.xcom(self.admin, run, task)

    def task(self, run: Run, task: str) -> dict[str, Any]:
        """A task instance as Airflow tells it."""
        found: dict[str, Any] = self.admin.get(task_path(run.dag_id, run.run_id, task))
        return found

    def forge(self, user: str, run: Run, task: str, value: Any) -> None:
        """Overwrite a task's return value through the API, as any user with the right to edit DAG runs may."""
        self.people[user].patch(f"{task_path(run.dag_id, run.run_id, task)}/xcomEntries/return_value", {"value": value})

    def clear(self, user: str, run: Run, task: str) -> None:
        """Let a task of a finished run, and all that follow from it, run again."""
        self.people[user].post(f"dags/{run.dag_id}/clearTaskInstances", {
            "dry_run": False, "dag_run_id": run.run_id, "task_ids": [task], "only_failed": False,
            "include_downstream": True})

    def events(self, run: Run, kind: Any = None, task: str | None = None) -> list[AuditEvent]:
        """The run's events, oldest first."""
        return [stored.event for stored in self.audit.events(dag_id=run.dag_id, run_id=run.run_id, task_id=task, kind=kind)]

    def by_hand(self, run: Run) -> list[AuditEvent]:
        """Changes that people made to a run; for a request about a whole run, its id stands in the body."""
        changes = (stored.event for stored in self.audit.events(kind="manual.change"))
        return [event for event in changes if event.body.get("run_id") == run.run_id]

    def live(self, model: str) -> str | None:
        """The version in production, as MLflow tells it."""
        answer = httpx.get(f"{self.settings()['AIRGATE_MLFLOW_URI']}/api/2.0/mlflow/registered-models/alias",
                           params={"name": model, "alias": "production"})
        return str(answer.json()["model_version"]["version"]) if answer.is_success else None

    def verified(self, patience: float = 30) -> str:
        """What `airgate audit verify --complete` says, once it exits with 0: callbacks write just after a state is sent."""
        deadline = time.monotonic() + patience
        while True:
            code, said = self.airgate("audit", "verify", "--complete")
            if code == 0 or time.monotonic() > deadline:
                assert code == 0, said
                return said


def wait_until(condition: Any, what: str, patience: float = PATIENCE) -> Any:
    """The condition's first true value. Fails the test when it does not come in time."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {patience:.0f} s"
        time.sleep(client.POLL)
    return value


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def asked(place: Place, promotion: Run) -> dict[str, Question]:
    """The promotion's questions by task, once both are asked."""
    def both() -> dict[str, Question] | None:
        waiting = client.questions(place.admin, promotion.dag_id)
        found = {question.task_id: question for question in waiting if question.run == promotion}
        return found if len(found) == 2 else None

    return dict(wait_until(both, "both approvals are asked for"))
