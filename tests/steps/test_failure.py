"""How a failure is told: with its place in the code, worth another try or not, and without secrets."""

from pathlib import Path

import pytest

from airgate.errors import DataError, StepError
from airgate.redaction import HIDDEN
from airgate.steps.annotations import hint_of
from airgate.steps.context import StepContext
from airgate.steps.failure import MESSAGE_LIMIT, failure_of
from airgate.steps.materialize import save
from airgate.steps.store import ArtifactStore

PEM = "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----"


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:  # noqa: BLE001
        return caught


@pytest.mark.parametrize("secret", [
    "https://ana:CANARY@host/x", "https://host/?token=CANARY", "Authorization: Bearer CANARY", "password=CANARY",
    "AKIACANARY7890123456", PEM, '{"api_token": "CANARY"}'])
def test_message_and_traceback_hide_secrets_also_of_a_cause_and_in_notes(secret: str) -> None:
    error = raised(RuntimeError(f"cannot go on: {secret}"), ValueError(secret))
    error.add_note(secret)
    failure = failure_of(error)
    assert "CANARY" not in failure.message + failure.traceback
    assert failure.message.startswith("cannot go on: ") and HIDDEN in failure.message
    assert "because of ValueError: " in failure.traceback


def test_what_is_no_secret_is_told_as_it_is() -> None:
    failure = failure_of(raised(DataError("column 'age': 3 rows below 0")))
    assert (failure.error, failure.message, failure.retryable) == ("DataError", "column 'age': 3 rows below 0", False)
    assert "in raised" in failure.traceback
    assert failure_of(RuntimeError()).message == "no message was given"
    assert len(failure_of(RuntimeError("x" * 2 * MESSAGE_LIMIT)).message) == MESSAGE_LIMIT


@pytest.fixture
def context(make_call, tmp_path: Path) -> StepContext:
    return StepContext(make_call("nothing"), tmp_path)


def test_names_and_facts_keep_no_secret(context: StepContext) -> None:
    context.log_metric("score of token=CANARY", 1.0)
    context.fact("api_token", "CANARY")
    context.fact("source", "s3://k:CANARY@bucket")
    context.fact("revision", "c0ffee")
    assert context.metrics == {"score of token=***": 1.0}
    assert context.facts == {"api_token": "***", "source": "s3://***@bucket", "revision": "c0ffee"}


def test_an_attachment_with_a_credential_for_a_name_is_refused(context: StepContext, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"attachment '\*\*\*': its name looks like a credential. Choose another name."):
        context.attach("AKIACANARY7890123456", tmp_path)


def test_a_value_that_holds_a_secret_is_not_stored(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    with pytest.raises(StepError, match="what the step returned looks like a secret at 'login.api_token', and a JSON") as said:
        save(store, {"rows": 3, "login": {"api_token": "CANARY"}}, hint_of(dict), tmp_path)
    assert "CANARY" not in str(said.value) and not list((tmp_path / "store").rglob("*"))
