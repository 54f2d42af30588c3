"""The console: Airgate's own API and page, mounted at /airgate in Airflow's API server.

Every route needs a user whom Airflow knows (401) and who may read the audit log (403). Imported with the first request
only, since Airflow's security module costs a second.
"""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, HTTPException, Query, Request, status
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from airgate.audit import checkpoints, proofs
from airgate.audit.event import KINDS
from airgate.authoring import catalog
from airgate.console import outside, overview, page
from airgate.contracts.payloads import DriftVerdict
from airgate.contracts.promotion import PRODUCTION
from airgate.contracts.runs import dag_id
from airgate.contracts.stages import STAGES
from airgate.errors import AirgateError, PromotionError, SpecError, nearest
from airgate.lifecycle import history_report, provenance
from airgate.runtime.record import store

Limit = Annotated[int, Query(ge=1, le=500)]


def reader(user: GetUserDep) -> Any:
    """The user, if he may read audit logs of all DAGs. Raises 401 without a login, 403 without the right."""
    details = DagDetails(id=None)
    if not get_auth_manager().is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.AUDIT_LOG, details=details, user=user):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Reading the audit log needs the right to read Airflow's audit logs.")
    return user


app = FastAPI(title="Airgate", openapi_url=None, dependencies=[Depends(reader)])


@app.exception_handler(AirgateError)
def unavailable(_request: Request, error: AirgateError) -> JSONResponse:
    """The log or the models cannot be read: 503 with the error's own text, which holds no secret."""
    return JSONResponse({"detail": str(error)}, status.HTTP_503_SERVICE_UNAVAILABLE)


@app.get("/api/audit/events")
def events(model: str | None = None, kind: str | None = None, run: str | None = None, before: int | None = None,
           limit: Limit = 50) -> dict[str, Any]:
    """The newest events that fit, newest first; `before` is a seq and gives the next page."""
    if kind is not None and kind not in KINDS:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, f"no event kind '{kind}'; {nearest(kind, KINDS)}")
    found = store().events(model=model, kind=kind, run_id=run, before=before, limit=limit, newest_first=True)
    return {"events": [overview.as_json(stored) for stored in found]}


@app.get("/api/audit/verify")
def verify() -> dict[str, Any]:
    """Whether bytes and signatures hold, as the page says it: {"ok", "verdict", "size", "root", "seconds_ago"}."""
    report, age = overview.trust_in(store())
    verdict = report.reasons[0] if report.integrity.ok and report.reasons else report.integrity.line()
    return {"ok": report.ok, "verdict": verdict, "size": report.integrity.size, "root": report.integrity.root.hex(),
            "seconds_ago": age}


@app.get("/api/audit/events/{event_id}/proof")
def proof(event_id: UUID, size: int | None = None) -> dict[str, Any]:
    """An event's place in the tree of the first `size` events, by default of all; see `proofs.inclusion`."""
    log = store()
    seq, now = proofs.seq_of(log, event_id), log.head()[0]
    if seq is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"The log has no event {event_id}.")
    if size is not None and not seq < size <= now:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT,
                            f"Event {event_id} is number {seq}: it is not in the tree of {size}; allowed: {seq + 1} to {now}.")
    return proofs.inclusion(log, seq, size)


@app.get("/api/audit/consistency")
def consistency(old: int, new: int | None = None) -> dict[str, Any]:
    """Whether the first `old` events are the beginning of the first `new`, by default of all; see `proofs.consistency`."""
    log = store()
    now = log.head()[0]
    if not 1 <= old <= (now if new is None else new) <= now:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT,
                            f"No proof from {old} to {now if new is None else new}; allowed: 1 <= old <= new <= {now}.")
    return proofs.consistency(log, old, new)


@app.get("/api/audit/checkpoint", response_class=PlainTextResponse)
def checkpoint() -> PlainTextResponse:
    """The newest checkpoint, a signed note, byte for byte."""
    note = checkpoints.newest(store())
    if note is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "The log has no checkpoint yet; the DAG audit_upkeep signs one.")
    return PlainTextResponse(note.raw)


@app.get("/api/models/{model}/history")
def history(model: str, at: datetime | None = None, known_at: datetime | None = None, stage: str = PRODUCTION) -> dict[str, Any]:
    """What was in the stage, when, and when that was known, with proofs; `at` asks about one moment. See `history_report`.

    Times without an offset are UTC. `moves` are all moves of the model's stages as the log has them, oldest first.
    """
    log = store()
    try:
        found = history_report.report(log, model, stage=stage, at=_utc(at), known_at=_utc(known_at))
    except PromotionError as error:
        code = status.HTTP_404_NOT_FOUND if stage in STAGES else status.HTTP_422_UNPROCESSABLE_CONTENT
        raise HTTPException(code, str(error)) from None
    moves = [stored for stored in found.history.events if stored.event.kind == "stage.moved"]
    return {**history_report.as_json(found), "moves": [overview.as_json(stored) for stored in moves]}


@app.get("/api/models/{model}/predictions/{digest}")
def predictions(model: str, digest: Annotated[str, PathParameter(pattern=r"^sha256:[0-9a-f]{64}$")]) -> dict[str, Any]:
    """Which version made the prediction file with this SHA-256 ('sha256:...'), with proofs; see `provenance`."""
    found = provenance.of_digest(store(), model, digest)
    if found.run is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "; ".join(found.problems))
    return provenance.as_json(found)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


@app.post("/api/drift-verdicts", status_code=status.HTTP_201_CREATED)
def drift_verdict(verdict: DriftVerdict, user: GetUserDep, session: SessionDep) -> dict[str, Any]:
    """Take the verdict of an outside monitor about one window of a model; see `outside`.

    Needs the right to start the model's drift check. The same verdict again is recorded once.
    """
    checked_by = dag_id(verdict.model, "drift_check")
    details = DagDetails(id=checked_by, team_name=DagModel.get_team_name(checked_by, session=session))
    if not get_auth_manager().is_authorized_dag(
            method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user):
        raise HTTPException(status.HTTP_403_FORBIDDEN, f"Posting a drift verdict needs the right to run {checked_by}.")
    try:
        catalog.model(verdict.model)
    except SpecError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from None
    event = outside.record(store(), verdict, user.get_name())
    return {"event_id": str(event.event_id), "asset_event": outside.announce(session, verdict, event)}


@app.get("/", response_class=HTMLResponse)
def governance(model: str | None = None, events: Literal["decisions", "all"] = "decisions",
               before: int | None = None) -> HTMLResponse:
    """The page "Governance": the models, and the newest events before the seq `before`."""
    nonce = secrets.token_urlsafe(16)
    policy = (f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; frame-ancestors 'self'; "
              "base-uri 'none'; form-action 'none'")
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    try:
        found = overview.overview(store(), model, everything=events == "all", before=before)
        content, code = page.render(found, nonce), status.HTTP_200_OK
    except AirgateError as error:
        content, code = page.render_error(str(error), nonce), status.HTTP_503_SERVICE_UNAVAILABLE
    return HTMLResponse(content, code, headers)
