from datetime import UTC, datetime

import httpx

from airgate.airflow_api import AirflowApi
from airgate.registry.answers import AirflowAnswers, answer_from

RECORD = {"subject": "s", "body": "b", "response_received": True, "chosen_options": ["Approve"],
          "params_input": {"reason": "fine"}, "responded_by_user": {"id": "ana", "name": "ana"},
          "responded_at": "2026-01-10T12:00:00Z"}


def test_a_full_record() -> None:
    answer = answer_from("risk_officer", RECORD)
    assert (answer.received, answer.user, answer.chosen, answer.reason) == (True, "ana", ["Approve"], "fine")
    assert answer.at == datetime(2026, 1, 10, 12, tzinfo=UTC)


def test_a_default_taken_at_the_timeout_names_nobody_and_is_no_answer() -> None:
    assert not answer_from("risk_officer", {**RECORD, "responded_by_user": None}).received


def test_an_open_record() -> None:
    answer = answer_from("risk_officer", {"subject": "s", "body": "b", "response_received": False, "chosen_options": None})
    assert (answer.received, answer.user, answer.at, answer.chosen) == (False, None, None, [])


def serve(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/auth/token":
        return httpx.Response(201, json={"access_token": "t"})
    assert request.headers["Authorization"] == "Bearer t"
    if "approve_risk_officer" in request.url.path:
        return httpx.Response(200, json=RECORD)
    return httpx.Response(404, json={"detail": "not found"})


def test_one_answer_a_role_and_a_missing_record_is_no_answer() -> None:
    with AirflowApi("http://airflow", "airgate", "secret", transport=httpx.MockTransport(serve)) as api:
        answers = AirflowAnswers(api).answers("m_promotion", "asset__2026-01-10T12:00:00+00:00", ["ml_engineer", "risk_officer"])
    assert [(a.role, a.received) for a in answers] == [("ml_engineer", False), ("risk_officer", True)]
