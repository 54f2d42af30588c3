"""Delivers events to the log, and to the spool when the log cannot take them: what happened is never without a record.

Not for decisions: a promotion that cannot be recorded is not made, so those who make one append to the store themselves.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airgate.audit.event import AuditEvent
from airgate.audit.spool import Spool
from airgate.errors import AirgateError, AuditError

if TYPE_CHECKING:
    from airgate.audit.store import AuditStore

log = logging.getLogger(__name__)
# Files drained by one delivery, which somebody waits for; the upkeep drains the rest.
AT_ONCE = 100


class NotRecorded(AuditError):
    """The log could not take an event; it waits in the spool and will be recorded."""


class Delivery:
    """The way to one log and, beside it, to the spool on this machine."""

    def __init__(self, url: str, spool: Path, patience: float = 0.0, timeout: float = 10.0) -> None:
        """Take the log's URL, the spool's folder and, in seconds, what AuditStore takes. Nothing is opened yet."""
        self.spool = Spool(spool)
        self._url, self._patience, self._timeout = url, patience, timeout
        self._log: AuditStore | None = None

    def append_if_absent(self, event: AuditEvent) -> int:
        """Record an event unless its id is there, whatever its bytes; give the seq.

        Raises NotRecorded when it is in the spool instead, AuditError when it can be neither recorded nor kept.
        """
        return self._deliver([event], lambda store: [store.append_if_absent(event)])[0]

    def append_many(self, events: Sequence[AuditEvent]) -> list[int]:
        """Record events in one transaction and give their seqs. Raises as `append_if_absent` does."""
        return self._deliver(events, lambda store: store.append_many(events))

    def _deliver(self, events: Sequence[AuditEvent], append: "Callable[[AuditStore], list[int]]") -> list[int]:
        try:
            if self._log is None:
                self._log = self._store(self._patience)
            seqs = append(self._log)
        except AirgateError as error:
            self._keep(events, error)
            raise NotRecorded(
                f"{error}. It waits in the spool {self.spool.folder} and is recorded when the log is back") from None
        except BaseException:  # stopped or timed out while it waited for the log
            with suppress(AuditError):
                self._keep(events)
            raise
        if not self.spool.is_empty():
            self._drain()
        return seqs

    def _keep(self, events: Sequence[AuditEvent], error: AirgateError | None = None) -> None:
        problems: list[str] = [str(error)] if error else []
        kept = True
        for event in events:
            try:
                self.spool.put(event)
            except AuditError as second:
                kept = False
                if str(second) not in problems:
                    problems.append(str(second))
        if not kept:
            raise AuditError("; ".join(problems))

    def _drain(self) -> None:
        """Whatever comes of it, the events in hand are recorded."""
        try:
            report = self.spool.drain(self._store(0.0), AT_ONCE)
        except AuditError as error:
            log.warning("%s", error)
        else:
            log.info("%s", report.line())

    def _store(self, patience: float) -> "AuditStore":
        from airgate.audit.store import AuditStore  # SQLAlchemy, which a DAG that is only parsed does not need

        return AuditStore(self._url, self._timeout, patience)
