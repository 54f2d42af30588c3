"""Puts every change that a person makes through Airflow's API on record, with who made it.

Written as plain ASGI: the request's body passes through untouched and as it comes; the first 64 KiB are copied. The
record is written after Airflow's transaction is committed and before the answer leaves, so whoever gets an answer finds
the record. If the log fails, the change stands, the record waits in the spool, and the server's log says so at level
ERROR.
"""

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airgate.errors import AirgateError
from airgate.governance import manual
from airgate.redaction import redact

log = logging.getLogger(__name__)
COPY_LIMIT = 64 * 1024
# Seconds to wait for a log that is down: a person waits for the answer.
PATIENCE = 2.0
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
UserOf = Callable[[Scope], Awaitable[tuple[str, str]]]


class ManualChanges:
    """ASGI middleware for Airflow's API server."""

    def __init__(self, app: App, user_of: UserOf | None = None) -> None:
        """Wrap `app` and register the listener, which belongs to this process only.

        `user_of` gives name and id of a request's user; None asks Airflow.
        """
        from airflow.listeners.listener import get_listener_manager

        from airgate.governance import listener

        self._app = app
        self._user_of = user_of or airflow_user
        get_listener_manager().add_listener(listener)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; record a change that succeeded."""
        request = manual.classify(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if request is None:
            await self._app(scope, receive, send)
            return
        copy = _BodyCopy(receive)

        async def recording_send(message: Message) -> None:
            if message["type"] == "http.response.start" and 200 <= message["status"] < 300:
                await self._record(request, scope, copy.value())
            await send(message)

        token = manual.current.set(request)
        try:
            await self._app(scope, copy.receive, recording_send)
        finally:
            manual.current.reset(token)

    async def _record(self, request: manual.ManualRequest, scope: Scope, body: Any) -> None:
        from starlette.concurrency import run_in_threadpool

        if manual.is_preview(request, body):
            return
        name, user_id = await self._user_of(scope)
        await run_in_threadpool(_append, request, name, user_id, body)


class _BodyCopy:
    """Hands a request's body on, chunk by chunk, and keeps the first COPY_LIMIT bytes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = bytearray()
        self._size = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            chunk = message.get("body", b"")
            self._size += len(chunk)
            self._bytes += chunk[: COPY_LIMIT - len(self._bytes)]
        return message

    def value(self) -> Any:
        """The body as JSON, or in words why there is none."""
        if self._size > COPY_LIMIT:
            return f"a body of {self._size} bytes, too long to be recorded"
        if not self._bytes:
            return None
        try:
            return json.loads(self._bytes)
        except ValueError:
            return f"a body of {self._size} bytes that is no JSON"


async def airflow_user(scope: Scope) -> tuple[str, str]:
    """Name and id of the user whom Airflow let through, found the way Airflow found them."""
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
    from fastapi import HTTPException, Request

    request = Request(scope)
    try:
        user = await get_user(request, None, await bearer_scheme(request))
    except HTTPException as error:  # a route that needs no login, or a login that ended during the request
        log.warning("No user for %s %s: %s", scope["method"], scope["path"], error.detail)
        return "unknown", ""
    return user.get_name(), str(user.get_id())


def _append(request: manual.ManualRequest, name: str, user_id: str, body: Any) -> None:
    from airgate import settings
    from airgate.audit.delivery import NotRecorded
    from airgate.audit.event import Actor
    from airgate.runtime.record import delivery

    try:
        changes = manual.events(request, Actor(kind="user", name=name[:250] or "unknown"), user_id, body,
                                lambda body: _masked(request, body))
        delivery(min(PATIENCE, settings.load().audit_patience)).append_many(changes)
    except (AirgateError, ValueError) as error:  # pydantic's errors are ValueErrors; the change is made in any case
        log.error("Not in the audit log%s: %s by %s (%s %s): %s", " yet" if isinstance(error, NotRecorded) else "",
                  request.change, name, request.method, redact(request.path), redact(str(error)))


def _masked(request: manual.ManualRequest, body: Any) -> Any:
    """The body with *** for values under sensitive keys, secrets that the API server knows, and what looks like one."""
    # The masker of the API server; task processes have another, and neither has a public name.
    from airflow._shared.secrets_masker import redact as known

    return manual.masked(request, known(body))
