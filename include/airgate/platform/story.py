"""The demo's story: one model from its first training to its replacement after drift, told as it happens."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airgate.airflow_api import AirflowApi
from airgate.contracts.promotion import APPROVE
from airgate.contracts.runs import FLOWS, Flow, dag_id
from airgate.errors import PromotionError, StepError
from airgate.platform import airflow_client as client
from airgate.platform.airflow_client import Leg, Question, Run

MODEL = "diagnosis_classifier"
FIRST_DAY, BATCH_DAY, DRIFT_DAY, LAST_DAY = "2026-01-08", "2026-01-09", "2026-01-10", "2026-01-11"
UPKEEP = "audit_upkeep"
GUARD = "registry_guard"
UNDER_WAY: tuple[Flow, ...] = ("training", "validation", "promotion", "retraining")
QUIET_POLLS = 6  # Airflow needs a moment from one run's asset event to the next run
SIGNER_TASKS = ("request", "apply")


@dataclass
class Story:
    """The sessions of those who act, how to tell what happens, and the runs that were flown.

    `people` holds a session by user name. With `interactive`, a person answers the approvals in the UI.
    """

    admin: AirflowApi
    people: dict[str, AirflowApi]
    tell: Callable[[str], None]
    interactive: bool = False
    legs: list[Leg] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    asked: set[Question] = field(default_factory=set)

    def fly(self) -> None:
        """Fly it all. Raises StepError when a run fails, PromotionError when a promotion is refused."""
        dags = [dag_id(MODEL, flow) for flow in FLOWS] + [UPKEEP, GUARD]
        self.tell("waiting until Airflow has read the DAG files")
        client.wait_for_dags(self.admin, dags)
        client.unpause(self.admin, dags)
        self.end_earlier()

        self.chapter(f"1. mia trains {MODEL} on the days up to {FIRST_DAY}")
        self.into_production(self.ask_for("training", FIRST_DAY))

        self.chapter(f"2. The version in production scores {BATCH_DAY}, and {DRIFT_DAY} is checked for drift")
        scoring, checking = self.ask_for("batch_inference", BATCH_DAY), self.ask_for("drift_check", DRIFT_DAY)
        self.scored(scoring)
        self.wait(checking)

        self.chapter("3. Drift asks for a retraining, and the governor decides")
        self.into_production(self.retraining(checking))

        self.chapter(f"4. The new version scores {LAST_DAY}")
        self.scored(self.ask_for("batch_inference", LAST_DAY))

        self.chapter("5. The audit log is held against Airflow's own account")
        self.wait(client.trigger(self.admin, UPKEEP, {}))

    def chapter(self, title: str) -> None:
        """A headline."""
        self.tell("")
        self.tell(title)

    def ask_for(self, flow: Flow, day: str) -> Run:
        """mia starts a run of a flow for one day."""
        run = client.trigger(self.people["mia"], dag_id(MODEL, flow), {"day": day})
        self.tell(f"   {run.dag_id}: started for {day}")
        return run

    def wait(self, run: Run) -> Leg:
        """Wait for a run, telling each task's end."""
        short = run.dag_id.removeprefix(f"{MODEL}_")
        leg = client.wait(self.admin, run, lambda task, state, seconds: self.tell(
            f"     {short}.{task:24} {state:8} {seconds:6.1f} s"))
        self.legs.append(leg)
        return leg

    def into_production(self, training: Run) -> None:
        """Follow a training run: the candidate is validated, the passed verdict opens a promotion, two people answer."""
        self.wait(training)
        validation = client.set_off(self.admin, training, dag_id(MODEL, "validation"))
        self.wait(validation)
        # One promotion at a time: that of a demo that was interrupted may still wait for its answers, and ours for its turn.
        promotion = client.set_off(self.admin, validation, dag_id(MODEL, "promotion"), meanwhile=self.answer_open)
        while not self._over(promotion):
            self.answer_open()
        leg = self.wait(promotion)
        outcome = client.xcom(self.admin, promotion, "apply") or {}
        if leg.tasks.get("apply") != "success" or outcome.get("outcome") != "applied":
            raise PromotionError(f"the promotion did not go through: {'; '.join(outcome.get('reasons', [])) or leg.tasks}")

    def end_earlier(self) -> None:
        """Let what an interrupted demo left on its way come to its end: a version judged beside it would be judged too early."""
        quiet, said = 0, False
        while quiet < QUIET_POLLS:
            busy = any(self.admin.get(f"dags/{dag_id(MODEL, flow)}/dagRuns", state=state)["dag_runs"]
                       for flow in UNDER_WAY for state in ("queued", "running"))
            quiet = 0 if busy else quiet + 1
            if busy and not said:
                said = True
                self.tell("runs of an earlier demo are still on their way: they end first")
            self.answer_open()
            time.sleep(client.POLL)

    def answer_open(self) -> None:
        """Answer what waits for an answer as the people it is for, or tell them, once for each question."""
        for question in client.questions(self.admin, dag_id(MODEL, "promotion")):
            if question not in self.asked:
                self.asked.add(question)
                self._answer(question)

    def retraining(self, checking: Run) -> Run:
        """The training run that the drift verdict led to. Raises StepError when nothing drifted or the governor says no."""
        event = client.asset_event(self.admin, checking)
        if event is None:
            raise StepError(f"{checking.dag_id} found no drift on {DRIFT_DAY}, where the demo's data shift. Was the data "
                            "repository changed? Delete .airgate/data to have it made anew.")
        leg = self.wait(client.set_off(self.admin, checking, dag_id(MODEL, "retraining")))
        if leg.tasks.get("start_training") != "success":
            raise StepError(f"the governor decided against a retraining (run {leg.run.run_id}); its log says why. "
                            "model.yaml, `retraining`, holds the limits.")
        training = Run(dag_id(MODEL, "training"), f"retrain__{event['extra']['event_id']}")
        client.wait_started(self.admin, training)
        self.tell(f"   {training.dag_id}: started by the governor for {DRIFT_DAY}")
        return training

    def scored(self, run: Run) -> None:
        """Wait for a batch run and keep what it says of its files."""
        self.wait(run)
        result = client.xcom(self.admin, run, "predict") or {}
        self.predictions.append(result.get("value") or {})

    def _over(self, promotion: Run) -> bool:
        """True when nothing is left to answer: each approval task has ended, or the whole run has."""
        time.sleep(client.POLL)
        tasks = self.admin.get(f"{promotion.path}/taskInstances", limit=100)["task_instances"]
        states = [task["state"] for task in tasks if task["task_id"] not in SIGNER_TASKS]
        return all(state in client.TASK_ENDED for state in states) \
            or self.admin.get(promotion.path)["state"] in client.ENDED

    def _answer(self, question: Question) -> None:
        person = next((name for name in question.people if name in self.people), None)
        if self.interactive or person is None:
            address = f"{self.admin.address}/required_actions?response_received=false"
            self.tell(f"   {question.task_id} waits for {' or '.join(question.people)}: sign in as that person and answer at "
                      f"{address}")
            return
        self.tell(f"   {question.task_id}: answering as {person}, through Airflow's API")
        client.answer(self.people[person], question, APPROVE, "Demo: read the gate verdict, agree.")
