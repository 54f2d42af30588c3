"""What the page reads: cheap for many models, and never an old verdict as a new one."""

from datetime import UTC, datetime
from uuid import uuid4

from airgate.audit.event import Actor, AuditEvent
from airgate.console import overview
from airgate.console.overview import _Checked


def event(model, version):
    body = {"to_version": version, "stage": "production"}
    return AuditEvent(event_id=uuid4(), kind="stage.moved", occurred_at=datetime.now(UTC), model=model, version=version,
                      actor=Actor(kind="system", name="x"), source="operator", body=body)


def test_a_model_that_was_quiet_for_long_is_still_found(store, models):
    store.append(event("tumour", "1"))
    store.append_many([event("busy", str(number)) for number in range(overview._RECENT)])
    [state] = overview.overview(store).models
    assert (state.name, state.live.version) == ("tumour", "1")


def test_the_log_is_hashed_again_after_a_minute(store):
    now = [0.0]
    checked = _Checked(clock=lambda: now[0])
    assert checked.get(store)[0].integrity.size == 0
    store.append(event("tumour", "1"))
    now[0] = 59
    assert (checked.get(store)[0].integrity.size, checked.get(store)[1]) == (0, 59)
    now[0] = 61
    assert (checked.get(store)[0].integrity.size, checked.get(store)[1]) == (1, 0)


def test_a_log_that_takes_long_to_hash_is_hashed_less_often(store):
    now, step = [0.0], [10.0]

    def clock():
        now[0] += step[0]
        return now[0]

    checked = _Checked(clock)
    checked.get(store)
    store.append(event("tumour", "1"))
    step[0] = 0.0
    now[0] += 150
    assert checked.get(store)[0].integrity.size == 0
    now[0] += 60
    assert checked.get(store)[0].integrity.size == 1


def test_without_a_models_folder_the_log_is_shown(store, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRGATE_MODELS", str(tmp_path / "none"))
    found = overview.overview(store)
    assert found.models == []
    assert "does not exist" in found.broken["models"]
