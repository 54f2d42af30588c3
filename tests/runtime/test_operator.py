"""The operators' common part, run by Airflow's own task runner, with the real store and the real audit log.

What stands for a runtime here is a function that answers a call, so that every way a step can end is at hand.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.execution_api import TaskServer

from airgate.contracts import calls
from airgate.contracts.step import ArtifactRef, StepCall, StepFailure, StepResult
from airgate.runtime import StepPlan, record

DIGEST = "sha256:" + "ab" * 32
STARTED = datetime(2026, 1, 9, 6, tzinfo=UTC)
Answer = Callable[[StepCall], StepResult | None]


def output(digest: str = DIGEST) -> ArtifactRef:
    return ArtifactRef(uri=f"file:///store/{digest[7:]}", digest=digest, kind="json", size=12)


def good(value: Any = None, **more: Any) -> StepResult:
    return StepResult(output=output(), value=value, started_at=STARTED, metrics={"auc": 0.9}, seconds={"call": 1.5}, **more)


def bad(message: str, *, retryable: bool = True, error: str = "ValueError") -> StepResult:
    failure = StepFailure(error=error, message=message, retryable=retryable, traceback="Traceback: line 1")
    return StepResult(started_at=STARTED, failure=failure)


@pytest.fixture
def task(home: Path) -> Callable[..., Any]:
    """Make a task whose step answers as told; `seen` holds the calls that were asked."""
    from airflow.sdk import DAG, BaseOperator

    from airgate.runtime.operator import StepTask

    class Told(StepTask, BaseOperator):
        runtime = "told"

        def __init__(self, *, plan: StepPlan, answer: Answer, died: StepFailure | None = None, retries: int = 1,
                     **kwargs: Any) -> None:
            own = [plan.emits] if plan.emits else []
            super().__init__(retries=retries, outlets=own, **kwargs)
            self.hold(plan)
            self.answer, self.died = answer, died
            self.seen: list[StepCall] = []

        def step_image(self) -> str:
            return "told"

        def execute(self, context: Any) -> dict[str, Any]:
            with self.accounted(context):
                url = self.begin(context)
                self.seen.append(calls.read_call(url))
                result = self.answer(self.seen[-1])
                receipt = None if result is None else calls.write_result(url, result)
                return self.settle(context, url, receipt, self.died, "signal 9" if self.died else "exit code 0")

    def make(answer: Answer, task_id: str = "train", dag: Any = None, **kwargs: Any) -> Any:
        plan = kwargs.pop("plan", StepPlan("airgate.steps.load:load_day"))
        return Told(task_id=task_id, dag=dag or DAG("heart_training"), plan=plan, answer=answer, **kwargs)

    return make


def log() -> list[tuple[str, str]]:
    """Kind and actor of all that is on record, oldest first."""
    return [(e.event.kind, f"{e.event.actor.kind}:{e.event.actor.name}") for e in record.store().events()]


def last_body() -> dict[str, Any]:
    return dict(record.store().events(newest_first=True, limit=1)[0].event.body)


def test_a_success_is_on_record_before_it_is_told(task: Any, server: TaskServer) -> None:
    done = server.run(task(lambda call: good({"n": 1}, facts={"data_revision": "r1"})))
    assert done.state == "success", done.error
    assert log() == [("task.started", "user:ana"), ("task.succeeded", "user:ana")]
    body = last_body()
    assert body["output"] == output().model_dump(mode="json")
    assert body["metrics"] == {"auc": 0.9} and body["facts"] == {"data_revision": "r1"}
    assert body["function"] == "airgate.steps.load:load_day" and body["runtime"] == "told"
    event = record.store().events(kind="task.succeeded")[0].event
    assert event.code.commit == "c0ffee" and event.code.image == "told"
    assert StepResult.model_validate(server.value("train")).value == {"n": 1}


@pytest.mark.attack("result.json rewritten between a step's end and its record: the task fails, and the log says why")
def test_a_result_that_was_rewritten_fails_at_once(task: Any, server: TaskServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def rewritten(url: str, digest: str | None) -> StepResult | None:
        calls.write_result(url, good({"n": 2}))
        return read(url, digest)

    read = calls.read_result
    monkeypatch.setattr(calls, "read_result", rewritten)
    done = server.run(task(lambda call: good({"n": 1})))
    assert done.state == "failed" and "result.json: expected sha256:" in str(done.error)
    assert [kind for kind, _ in log()] == ["task.started", "task.failed"] and last_body()["error"] == "DigestError"


def test_the_call_says_who_asks_and_for_which_days(task: Any, server: TaskServer, home: Path) -> None:
    one = task(lambda call: good(), plan=StepPlan("airgate.steps.load:load_day", parameters={"revision": "main"}))
    server.run(one)
    call = one.seen[0]
    assert call.run.window is not None and call.run.window.start.isoformat() == "2026-01-08"
    assert (call.run.actor, call.run.code_version, call.run.try_number) == ("user:ana", "c0ffee", 1)
    assert call.parameters == {"revision": "main"}
    assert call.store == f"file://{home}/artifacts" and call.tracking_uri == f"sqlite:///{home}/mlflow.db"


@pytest.mark.parametrize(("run_type", "user", "assets", "actor"), [
    ("manual", "ana", (), "user:ana"), ("scheduled", None, (), "schedule:heart_training"),
    ("backfill", "omar", (), "backfill:omar"), ("asset_triggered", None, ("heart.drift",), "asset:heart.drift"),
    ("operator_triggered", None, (), "system:operator_triggered"),
])
def test_the_actor_is_what_started_the_run(task: Any, run_type: str, user: str | None, assets: tuple[str, ...],
                                           actor: str) -> None:
    server = TaskServer(run_type=run_type, user=user, asset_names=assets)
    assert server.run(task(lambda call: good())).state == "success"
    assert log()[0] == ("task.started", actor)


def test_values_of_other_tasks_are_resolved_when_the_step_runs(task: Any, server: TaskServer) -> None:
    from airflow.sdk import DAG
    from airflow.sdk.bases.operator import BaseOperator

    dag = DAG("heart_training")
    other = BaseOperator(task_id="choose", dag=dag)
    server.xcoms[("choose", "return_value", -1)] = {"version": "3"}
    plan = StepPlan("airgate.steps.predict:predict", json_inputs={"live": other.output}, parameters={"n": 2})
    one = task(lambda call: good(), dag=dag, plan=plan)
    assert one.upstream_task_ids == {"choose"}
    assert server.run(one).state == "success"
    assert one.seen[0].parameters == {"n": 2, "live": {"version": "3"}}


def test_an_upstream_steps_output_facts_and_mlflow_run_go_on(task: Any, server: TaskServer) -> None:
    from airflow.sdk import DAG

    dag = DAG("heart_training")
    server.run(task(lambda call: good(facts={"data_hash": "md5:1"}, mlflow_run_id="m1"), "load", dag))
    after = task(lambda call: good(), "fit", dag, plan=StepPlan("airgate.steps.x:y", inputs={"data": "load"}))
    assert server.run(after).state == "success"
    call = after.seen[0]
    assert call.inputs == {"data": output()} and call.facts == {"data_hash": "md5:1"} and call.run.mlflow_run_id == "m1"
    assert last_body()["inputs"] == {"data": DIGEST}


@pytest.mark.parametrize(("change", "words"), [
    (lambda xcom: None, "has no result in this run"),
    (lambda xcom: {"approved_by": "mallory"}, "is no StepResult"),
    (lambda xcom: {**xcom, "output": {**xcom["output"], "digest": "sha256:" + "cd" * 32}},
     "not what the audit log holds of it (its output)"),
    (lambda xcom: {**xcom, "facts": {"data_hash": "other"}}, "not what the audit log holds of it (its facts)"),
])
def test_an_xcom_changed_by_hand_starts_nothing(task: Any, server: TaskServer, change: Any, words: str) -> None:
    from airflow.sdk import DAG

    dag = DAG("heart_training")
    server.run(task(lambda call: good(), "load", dag))
    server.xcoms[("load", "return_value", -1)] = change(server.value("load"))
    after = task(lambda call: good(), "fit", dag, plan=StepPlan("airgate.steps.x:y", inputs={"data": "load"}))
    done = server.run(after)
    assert done.state == "failed" and not after.seen
    assert words in str(done.error) and "lear 'load' so that it runs again" in str(done.error)
    assert log()[-1][0] == "task.failed"


def test_an_xcom_of_a_step_that_never_succeeded_starts_nothing(task: Any, server: TaskServer) -> None:
    server.xcoms[("load", "return_value", -1)] = good().model_dump(mode="json")
    after = task(lambda call: good(), "fit", plan=StepPlan("airgate.steps.x:y", inputs={"data": "load"}))
    assert "no success in the audit log: it was put there by hand" in str(server.run(after).error)


def test_an_upstream_step_without_a_value_is_named(task: Any, server: TaskServer) -> None:
    from airflow.sdk import DAG

    dag = DAG("heart_training")
    server.run(task(lambda call: StepResult(started_at=STARTED), "tidy", dag))
    done = server.run(task(lambda call: good(), "fit", dag, plan=StepPlan("airgate.steps.x:y", inputs={"data": "tidy"})))
    assert "argument 'data' takes the output of 'tidy', but that step gave no value" in str(done.error)


def test_a_failure_with_tries_left_is_recorded_as_retrying_then_as_failed(task: Any, server: TaskServer) -> None:
    one = task(lambda call: bad("disk is full"))
    first, second = server.run(one), server.run(one, try_number=2)
    assert (first.state, second.state) == ("up_for_retry", "failed")
    assert [kind for kind, _ in log()] == ["task.started", "task.retrying", "task.started", "task.failed"]
    assert str(first.error) == "ValueError: disk is full"
    body = last_body()
    assert body["error"] == "ValueError" and body["message"] == "disk is full" and body["retryable"] is True
    assert body["ended"] == "exit code 0" and "Traceback" not in str(body)


def test_refused_data_fails_at_once_and_says_first_what_failed(task: Any, server: TaskServer) -> None:
    done = server.run(task(lambda call: bad("2 checks failed:\n- age: 3 nulls\n- bmi: infinite", retryable=False,
                                            error="DataError")))
    assert done.state == "failed" and [kind for kind, _ in log()] == ["task.started", "task.failed"]
    assert str(done.error).startswith("2 checks failed:\n- age: 3 nulls")


def test_a_killed_step_is_tried_again_and_the_signal_is_on_record(task: Any, server: TaskServer) -> None:
    killed = StepFailure(error="Killed", message="step process was killed by signal 9", retryable=True)
    assert server.run(task(lambda call: None, died=killed)).state == "up_for_retry"
    assert last_body()["ended"] == "signal 9"


def test_a_step_that_leaves_no_result_did_not_succeed(task: Any, server: TaskServer) -> None:
    done = server.run(task(lambda call: None))
    assert done.state == "up_for_retry" and "left no result" in str(done.error)


def test_without_an_audit_log_nothing_starts(task: Any, server: TaskServer, home: Path) -> None:
    one = task(lambda call: good())
    (home / "audit.db").unlink()
    done = server.run(one)
    assert done.state == "up_for_retry" and not one.seen
    assert "no step succeeds without its record" in str(done.error) and "AIRGATE_AUDIT_URL" in str(done.error)
    assert f"This failure is not in the audit log yet: there is no audit log at {home}/audit.db" in str(done.error)
    record.store().create()
    assert record.drain().recorded == 2
    assert log() == [("task.started", "user:ana"), ("task.retrying", "user:ana")]
    assert last_body()["error"] == "AuditError"


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch, home: Path) -> Answer:
    """A step during which the audit database goes down. The installation waits for it no longer than it must."""
    def lose(call: StepCall) -> StepResult:
        monkeypatch.setenv("AIRGATE_AUDIT_URL", "postgresql://ana:s3cret@127.0.0.1:1/audit")
        return good()

    monkeypatch.setenv("AIRGATE_AUDIT_PATIENCE", "0.01")
    return lose


def test_a_log_lost_while_the_step_runs_fails_the_task_and_says_what_became_of_the_work(
        task: Any, server: TaskServer, home: Path, outage: Answer) -> None:
    done = server.run(task(outage))
    assert done.state == "up_for_retry" and ("train", "return_value", -1) not in server.xcoms
    said = str(done.error)
    assert f"the step did its work - its output is {output().uri} ({DIGEST}) - but its success could not be put on record" in said
    assert "the audit store at 127.0.0.1:1/audit failed: " in said and "s3cret" not in said
    assert "the next try does the work again" in said
    assert "This failure is not in the audit log yet" in said and f"It waits in the spool {home}/spool" in said


def test_after_an_outage_the_log_has_the_failure_and_no_success(
        task: Any, server: TaskServer, home: Path, outage: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run(task(outage))
    monkeypatch.delenv("AIRGATE_AUDIT_URL")
    assert server.run(task(lambda call: good()), try_number=2).state == "success"
    tries = [(e.event.kind, e.event.task.try_number) for e in record.store().events() if e.event.task]
    assert tries == [("task.started", 1), ("task.started", 2), ("task.retrying", 1), ("task.succeeded", 2)]
    late = record.store().events(kind="task.retrying")[0]
    assert late.event.occurred_at < late.stored_at and "output" not in late.event.body
    assert late.event.body["error"] == "AuditError" and "the step did its work" in str(late.event.body["message"])
    assert not any((home / "spool").iterdir())


def test_the_last_try_of_an_outage_is_on_record_as_failed(
        task: Any, server: TaskServer, outage: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.run(task(outage, retries=0)).state == "failed"
    monkeypatch.delenv("AIRGATE_AUDIT_URL")
    assert record.drain().recorded == 1
    assert [kind for kind, _ in log()] == ["task.started", "task.failed"]


def test_a_failure_that_can_be_neither_recorded_nor_kept_still_fails(
        task: Any, server: TaskServer, home: Path, outage: Answer) -> None:
    (home / "spool").write_text("not a folder")
    done = server.run(task(outage))
    assert done.state == "up_for_retry"
    assert "This failure is not in the audit log: " in str(done.error) and "cannot keep an event: " in str(done.error)


def test_a_step_that_is_timed_out_while_it_waits_for_the_log_leaves_its_start(
        task: Any, server: TaskServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGATE_AUDIT_URL", "postgresql://127.0.0.1:1/audit")
    monkeypatch.setenv("AIRGATE_AUDIT_PATIENCE", "3600")
    one = task(lambda call: good(), execution_timeout=timedelta(seconds=1))
    done = server.run(one)
    assert done.state in ("up_for_retry", "failed") and not one.seen
    monkeypatch.delenv("AIRGATE_AUDIT_URL")
    assert record.drain().recorded >= 1
    assert ("task.started", "user:ana") in log()


def test_an_unreadable_parameter_of_the_run_is_final(task: Any, server: TaskServer) -> None:
    from airflow.sdk import DAG

    done = server.run(task(lambda call: good(), dag=DAG("heart_training", params={"day": "tomorrow"})))
    assert done.state == "failed" and "write it as YYYY-MM-DD" in str(done.error)
    assert last_body()["error"] == "ConfigError"


def test_the_asset_event_carries_the_value_and_the_record(task: Any, server: TaskServer) -> None:
    from airflow.sdk import Asset

    asset = Asset("heart.drift")
    plan = StepPlan("airgate.steps.drift:check", emits=asset)
    done = server.run(task(lambda call: good({"drifted": True, "event_id": ""}), plan=plan))
    assert done.state == "success", done.error
    succeeded = record.store().events(kind="task.succeeded")[0].event
    sent = next(body for what, body in server.sent if what == "state" and body.get("outlet_events"))
    assert sent["outlet_events"][0]["extra"] == {"drifted": True, "event_id": str(succeeded.event_id)}
    assert last_body()["emits"] == "heart.drift"


def test_an_asset_event_without_a_dict_is_no_success(task: Any, server: TaskServer) -> None:
    from airflow.sdk import Asset

    plan = StepPlan("airgate.steps.drift:check", emits=Asset("heart.drift"))
    done = server.run(task(lambda call: good(3), plan=plan))
    assert "emits asset 'heart.drift' but its value is int" in str(done.error)
    assert [kind for kind, _ in log()] == ["task.started", "task.failed"]


def test_long_parts_are_recorded_by_their_digest(task: Any, server: TaskServer) -> None:
    plan = StepPlan("airgate.steps.x:y", parameters={"words": "long " * 20_000})
    assert server.run(task(lambda call: good(), plan=plan)).state == "success"
    assert last_body()["parameters"].keys() == {"digest", "bytes"}
