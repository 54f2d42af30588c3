"""Verdicts of a drift monitor that is not Airgate's: put on record as such, and told to whoever waits for them."""

from datetime import UTC, datetime
from typing import Any

from airgate import redaction
from airgate.audit.event import Actor, AuditEvent, event_id_of
from airgate.audit.store import AuditStore
from airgate.contracts.payloads import DriftVerdict
from airgate.runtime.record import fingerprint

SOURCE = "outside monitor"


def record(store: AuditStore, verdict: DriftVerdict, user: str) -> AuditEvent:
    """Append `drift.verdict` with the posting user as its actor; the same verdict again gives the event that is there.

    A verdict cannot call itself Airgate's: `source` "airgate" becomes "outside monitor". A DriftSensor finds the event.
    Raises AuditError when the store cannot take it.
    """
    source = SOURCE if verdict.source.strip().lower() == "airgate" else verdict.source
    body = redaction.masked(verdict.model_copy(update={"source": source}).model_dump(mode="json", exclude={"event_id"}))
    event_id = event_id_of("drift.verdict", "outside", fingerprint(body))
    earlier = store.get(event_id)
    if earlier is not None:
        return earlier.event
    event = AuditEvent(event_id=event_id, kind="drift.verdict", occurred_at=datetime.now(UTC),
                       actor=Actor(kind="user", name=user), model=verdict.model, version=verdict.version, source="api",
                       body=body)
    store.append_if_absent(event)
    return event


def announce(session: Any, verdict: DriftVerdict, event: AuditEvent) -> bool:
    """Emit the model's `drift` asset for a verdict of drift, as the drift check does. False where nothing is to be told:
    no drift, or no DAG has the asset. The governor limits how often this can retrain.
    """
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetModel
    from sqlalchemy import select

    if not verdict.drifted:
        return False
    asset = session.scalar(select(AssetModel).where(AssetModel.name == f"{verdict.model}.drift").limit(1))
    if asset is None:
        return False
    extra = {**event.body, "event_id": str(event.event_id)}
    return asset_manager.register_asset_change(asset=asset, extra=extra, source_is_api=True, session=session) is not None
