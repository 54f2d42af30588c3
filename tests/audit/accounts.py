"""Accounts as lists: what Airflow and MLflow would say."""

from datetime import UTC, datetime, timedelta

from airgate.audit.answers import HumanAnswer
from airgate.audit.registry_state import RegistryState
from airgate.audit.runs import DagRun
from airgate.audit.tries import TaskTry

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)


def attempt(task_id="t", state="success", try_number=1, run_id="r", map_index=-1, end=NOW):
    return TaskTry("d", run_id, task_id, map_index, try_number, state, NOW - timedelta(minutes=1), end, "StepOperator")


def ended(run_id="r", state="success", run_type="manual", user="ana", end=NOW, **fields):
    return DagRun("d", run_id, state, run_type, user, start=NOW - timedelta(minutes=2), end=end, **fields)


def answer(task_id="approve", user="ana", at=NOW, chosen=("Approve",), run_id="r"):
    return HumanAnswer("d", run_id, task_id, -1, user, user, at, chosen)


class Airflow:
    """Airflow's account, made of runs, tries and answers in any order. `single` are runs as they are read one by one."""

    def __init__(self, *said, single=None):
        self.said, self.single, self.asked = said, single, []

    def _of(self, kind, since):
        self.asked.append(since)
        return (item for item in self.said if isinstance(item, kind))

    def runs(self, since=None):
        return self._of(DagRun, since)

    def run(self, dag_id, run_id):
        return self.single or next((run for run in self.runs() if (run.dag_id, run.run_id) == (dag_id, run_id)), None)

    def tries(self, since=None):
        return self._of(TaskTry, since)

    def answers(self, since=None):
        return self._of(HumanAnswer, since)


class Mlflow:
    """MLflow's account: versions by model, and by model where the aliases are; a text is the version in production."""

    def __init__(self, versions=None, aliases=None):
        self.list, self.aliases = versions or {}, aliases or {}

    def state(self, model):
        found = self.aliases.get(model) or {}
        aliases = {"production": found} if isinstance(found, str) else found
        return RegistryState(model, {one.version: one for one in self.list.get(model, [])}, aliases, model in self.list)
