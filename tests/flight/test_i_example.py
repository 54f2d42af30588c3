"""The example of docs/examples: a DAG that waits for a drift verdict, which an outside monitor then posts."""

import httpx
import pytest
from tests.flight.place import Place, wait_until

from airgate.platform.story import MODEL, Story

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]
DAY, NEXT = "2026-01-12", "2026-01-13"


def test_a_deferred_sensor_wakes_when_an_outside_verdict_is_posted(place: Place, story: Story) -> None:
    place.ready("morning_scores")
    run = place.start("mia", "morning_scores", day=DAY)
    wait_until(lambda: place.task(run, "drift")["state"] == "deferred", "the sensor defers")

    verdict = {"model": MODEL, "version": "2", "window": {"start": DAY, "end": NEXT}, "drifted": False, "share": 0.1,
               "source": "evening monitor"}
    answer = httpx.post(f"{place.admin.address}/airgate/api/drift-verdicts", json=verdict, headers=token(place, "mia"))
    assert answer.status_code == httpx.codes.CREATED, answer.text
    assert answer.json()["asset_event"] is False

    place.finish(run)
    assert place.xcom(run, "drift")["event_id"] == answer.json()["event_id"]
    assert place.xcom(run, "drift")["source"] == "evening monitor"
    [scored] = place.events(run, "task.succeeded", "predict")
    assert place.xcom(run, "tell") == f"{scored.body['facts']['rows']} rows scored by version 2"
    recorded = place.audit.get(answer.json()["event_id"])
    assert recorded is not None
    assert (recorded.event.actor.name, recorded.event.source) == ("mia", "api")


def token(place: Place, user: str) -> dict[str, str]:
    """A login for what is not under /api/v2."""
    answer = httpx.post(f"{place.admin.address}/auth/token", json={"username": user, "password": place.password(user)})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}
