"""The shapes below are those that Airflow 3.3.2 answered with (a real API server, shortened)."""

import json
from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx
import pytest

from airgate.airflow_api import AirflowApi
from airgate.audit.airflow_account import RestAccount
from airgate.audit.answers import HumanAnswer
from airgate.audit.runs import DagRun
from airgate.errors import AuditError, ConfigError


def instance(task_id, state="success", try_number=1, dag_id="d", map_index=-1):
    return {
        "id": "019a", "task_id": task_id, "dag_id": dag_id, "dag_run_id": "manual__2025-01-01T00:00:00+00:00",
        "map_index": map_index, "start_date": "2025-01-01T00:00:00.123456Z", "end_date": "2025-01-01T00:00:05Z",
        "state": state, "try_number": try_number, "operator": "_StepOperator", "operator_name": "step",
    }


def dag_run(run_id="r", state="success", dag_id="d", **fields):
    return {
        "dag_run_id": run_id, "dag_id": dag_id, "logical_date": None, "queued_at": "2025-01-01T00:00:00Z",
        "start_date": "2025-01-01T00:00:01.5Z", "end_date": "2025-01-01T00:00:05.123456Z", "run_type": "manual", "state": state,
        "triggered_by": "rest_api", "triggering_user_name": "mia", "conf": {"day": "2025-01-01"}, "bundle_version": None,
        "dag_versions": [{"id": "v1", "version_number": 1}, {"id": "v2", "version_number": 2}], "partition_key": None, **fields,
    }


def response(task_id="approve", user="ana", at="2025-01-01T00:00:05Z", **fields):
    return {
        "options": ["Approve", "Refuse"], "subject": "s", "body": "b", "created_at": "2025-01-01T00:00:00Z",
        "responded_by_user": user and {"id": "7", "name": user}, "responded_at": at, "chosen_options": ["Approve"],
        "params_input": {"reason": "fine"}, "response_received": True, "task_instance": instance(task_id), **fields,
    }


class Airflow:
    """Answers as Airflow does: two pages, a token that runs out after each request if asked to."""

    def __init__(self, *instances, short_tokens=False):
        self.instances, self.short_tokens = instances, short_tokens
        self.tokens, self.paths, self.queries = 0, [], []

    def __call__(self, request):
        path = request.url.raw_path.decode().partition("?")[0]
        if path == "/auth/token":
            if json.loads(request.content) != {"username": "ana", "password": "pass"}:
                return httpx.Response(401, json={"detail": "Invalid credentials"})
            self.tokens += 1
            return httpx.Response(201, json={"access_token": f"token{self.tokens}"})
        if request.headers["authorization"] != f"Bearer token{self.tokens}":
            return httpx.Response(401, json={"detail": "Invalid JWT token"})
        self.paths.append(path)
        if self.short_tokens:
            self.tokens += 1
        if path.endswith("/tries"):
            task = path.split("/")[-3]
            tries = [instance(task, "failed"), instance(task, "success", 2)]
            return httpx.Response(200, json={"task_instances": tries})
        query = parse_qs(request.url.query.decode(), keep_blank_values=True)
        self.queries.append(query)
        first = query["cursor"] == [""]
        page = self.instances[:2] if first else self.instances[2:]
        return httpx.Response(200, json={"task_instances": page, "next_cursor": "more" if first else None})


def account(answer, password="pass", **options):
    api = AirflowApi("http://airflow:8080/", "ana", password, transport=httpx.MockTransport(answer))
    return RestAccount(api, **options)


def test_all_pages_and_all_tries_are_read():
    airflow = Airflow(instance("a"), instance("b", try_number=2), instance("c", None, 0), instance("e", "skipped", 0))
    tries = list(account(airflow).tries())
    assert [(at.task_id, at.try_number, at.state) for at in tries] == [
        ("a", 1, "success"), ("b", 1, "failed"), ("b", 2, "success"), ("e", 0, "skipped"),
    ]
    assert tries[0].start == datetime(2025, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert tries[0].operator == "step"
    history = "/api/v2/dags/d/dagRuns/manual__2025-01-01T00%3A00%3A00%2B00%3A00/taskInstances/b/-1/tries"
    pages = "/api/v2/dags/~/dagRuns/~/taskInstances"
    assert airflow.paths == [pages, history, pages]
    assert airflow.tokens == 1


@pytest.mark.parametrize("state", ["up_for_retry", "running", None])
def test_a_task_that_may_have_earlier_tries_is_looked_up(state):
    assert [at.state for at in account(Airflow(instance("a", state))).tries()] == ["failed", "success"]


def test_only_the_chosen_dags_count():
    airflow = Airflow(instance("a"), instance("b", dag_id="other"))
    assert [at.task_id for at in account(airflow, dags=lambda dag_id: dag_id == "d").tries()] == ["a"]


def test_since_narrows_the_question():
    airflow = Airflow(instance("a"))
    list(account(airflow).tries(datetime(2025, 1, 2, tzinfo=UTC)))
    assert airflow.queries[0]["updated_at_gte"] == ["2025-01-02T00:00:00+00:00"]


def served(answers, **options):
    """An Airflow that gives what `answers` has for a path, cut to pages; the queries it got stand in `asked`."""
    asked = []

    def respond(request):
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        path, query = request.url.raw_path.decode().partition("?")[0].removeprefix("/api/v2/"), request.url.params
        asked.append((path, dict(parse_qs(str(query), keep_blank_values=True))))
        if path not in answers:
            return httpx.Response(404, json={"detail": "not found"})
        answer = answers[path]
        if "offset" in query:
            name, rows = answer
            first = int(query["offset"])
            return httpx.Response(200, json={name: rows[first:first + int(query["limit"])], "total_entries": len(rows)})
        if isinstance(answer, tuple):
            return httpx.Response(200, json={answer[0]: answer[1], "next_cursor": None})
        return httpx.Response(200, json=answer)

    return account(respond, **options), asked


def test_runs_that_ended_are_asked_for():
    runs, asked = served({"dags/~/dagRuns": ("dag_runs", [
        dag_run(), dag_run("q", "failed", run_type="scheduled", triggering_user_name=None, bundle_version="c0ffee",
                           logical_date="2025-01-01T00:00:00Z", dag_versions=[])])})
    first, second = runs.runs(datetime(2025, 1, 2, tzinfo=UTC))
    assert first == DagRun(
        "d", "r", "success", "manual", "mia", datetime(2025, 1, 1, 0, 0, 1, 500000, UTC),
        datetime(2025, 1, 1, 0, 0, 5, 123456, UTC), dag_version="v2")
    assert (second.state, second.user, second.bundle_version, second.dag_version) == ("failed", None, "c0ffee", None)
    assert second.logical_date == datetime(2025, 1, 1, tzinfo=UTC)
    assert asked == [("dags/~/dagRuns", {"limit": ["100"], "order_by": ["id"], "cursor": [""], "state": ["success", "failed"],
                                         "updated_at_gte": ["2025-01-02T00:00:00+00:00"]})]


def test_one_run_is_read_once_with_the_assets_that_started_it():
    path = "dags/d/dagRuns/a%2Bb"
    events = [{"name": "rows", "uri": "u"}, {"name": None, "uri": "v"}]
    runs, asked = served({path: dag_run("a+b", run_type="asset_triggered", triggering_user_name=None),
                          f"{path}/upstreamAssetEvents": {"asset_events": events}})
    assert runs.run("d", "a+b").assets == ("rows", "v")
    assert runs.run("d", "a+b").actor.name == "rows, v"
    assert [path for path, _ in asked] == [path, f"{path}/upstreamAssetEvents"]


def test_a_run_that_was_deleted():
    runs, _ = served({})
    assert runs.run("d", "gone") is None


def test_answers_of_people_are_read_page_by_page():
    rows = [response(f"t{number}") for number in range(205)] + [response("timeout", user=None)]
    answers, asked = served({"dags/~/dagRuns/~/hitlDetails": ("hitl_details", rows)})
    found = list(answers.answers())
    assert len(found) == 205
    assert found[0] == HumanAnswer("d", "manual__2025-01-01T00:00:00+00:00", "t0", -1, "ana", "7",
                                   datetime(2025, 1, 1, 0, 0, 5, tzinfo=UTC), ("Approve",))
    assert [query["offset"] for _, query in asked] == [["0"], ["100"], ["200"]]
    assert all(query["response_received"] == ["true"] and query["order_by"] == ["-responded_at"] for _, query in asked)


def test_older_answers_are_left_out():
    rows = [response("new", at="2025-01-03T00:00:00Z"), *(response("old") for _ in range(300))]
    answers, asked = served({"dags/~/dagRuns/~/hitlDetails": ("hitl_details", rows)})
    assert [found.task_id for found in answers.answers(datetime(2025, 1, 2, tzinfo=UTC))] == ["new"]
    assert len(asked) == 1


@pytest.mark.parametrize("ask", ["runs", "tries", "answers"])
def test_only_the_chosen_dags_are_told_of(ask):
    answers = {"dags/~/dagRuns": ("dag_runs", [dag_run()]), "dags/~/dagRuns/~/hitlDetails": ("hitl_details", [response()]),
               "dags/~/dagRuns/~/taskInstances": ("task_instances", [instance("a")])}
    assert len(list(getattr(served(answers)[0], ask)())) == 1
    assert list(getattr(served(answers, dags=lambda dag_id: dag_id == "other")[0], ask)()) == []


def test_a_token_that_runs_out_is_renewed():
    airflow = Airflow(instance("a"), instance("b"), instance("c"), short_tokens=True)
    assert len(list(account(airflow).tries())) == 3


def test_a_refused_login_names_the_user_and_no_password():
    with pytest.raises(AuditError, match=r"refused the login of 'ana' \(401\); check AIRGATE_API_USER") as caught:
        list(account(Airflow(), password="wr0ng").tries())
    assert "wr0ng" not in str(caught.value)


def test_an_airflow_that_is_down_is_named():
    def refuse(request):
        raise httpx.ConnectError("Connection refused")

    with pytest.raises(AuditError, match=r"Airflow at http://airflow:8080 cannot be reached .*; is it running"):
        list(account(refuse).tries())


@pytest.mark.parametrize("answer", [{"task_instances": [{}]}, {}, [], {"task_instances": None}])
def test_an_unknown_shape_is_an_error(answer):
    def respond(request):
        return httpx.Response(200, json={"access_token": "t"} if request.url.path == "/auth/token" else answer)

    with pytest.raises(AuditError, match="answered in an unknown shape"):
        list(account(respond).tries())


def test_an_error_status_is_an_error():
    def respond(request):
        return httpx.Response(201 if request.url.path == "/auth/token" else 500, json={"access_token": "t"})

    with pytest.raises(AuditError, match="answered 500 to GET /api/v2/dags"):
        list(account(respond).tries())


def test_credentials_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("AIRGATE_API_USER", raising=False)
    with pytest.raises(ConfigError, match="set AIRGATE_API_USER and AIRGATE_API_PASSWORD"):
        RestAccount.from_environment()
