"""After everything that went wrong on these flights, the log is whole, and a sweep completes what nobody could write."""

import pytest
from tests.flight.place import Place

from airgate.platform.airflow_client import Run
from airgate.platform.story import Story

pytestmark = [pytest.mark.flight, pytest.mark.timeout(1500)]


def test_the_log_is_complete_after_a_sweep(place: Place, story: Story, trained: Run) -> None:
    code, said = place.airgate("audit", "sweep")
    assert code == 0, said
    said = place.verified()
    assert "integrity: ok" in said
    assert "completeness: ok" in said


def test_only_what_never_ran_had_to_be_recovered(place: Place, story: Story, trained: Run) -> None:
    recovered = [stored.event for stored in place.audit.events() if stored.event.recovered]
    assert {event.kind for event in recovered} <= {"task.upstream_failed"}
    assert place.audit.events(kind="audit.alarm") == []
