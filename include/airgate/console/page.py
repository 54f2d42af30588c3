"""The page "Governance" as HTML. Every value is escaped by the template engine; the page loads nothing from elsewhere."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airgate.audit.event import AuditEvent
from airgate.console.overview import Overview

TEMPLATE = "governance.html"


def render(overview: Overview, nonce: str) -> str:
    """Give the page. `nonce` is what the page's Content-Security-Policy allows its own style and script by."""
    return str(_template().render(overview=overview, error=None, nonce=nonce))


def render_error(error: str, nonce: str) -> str:
    """Give the page that says why there is nothing to show."""
    return str(_template().render(overview=None, error=error, nonce=nonce))


@cache
def _template() -> Any:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(moment=moment, about=about, percent=percent)
    return environment.get_template(TEMPLATE)


def moment(when: datetime) -> str:
    """A moment as people read it: '2026-01-08 14:03 UTC'."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def percent(share: Any) -> str:
    """A share of 1 in percent; a dash for what is no number."""
    return f"{share:.0%}" if isinstance(share, int | float) else "-"


def about(event: AuditEvent) -> str:
    """What an event is about, in one line of at most 200 characters."""
    body = event.body
    parts = [event.model + (f" v{event.version}" if event.version else "")] if event.model else []
    if event.task is not None:
        mapped = f"[{event.task.map_index}]" if event.task.map_index >= 0 else ""
        parts.append(f"{event.task.dag_id} / {event.task.task_id}{mapped}, try {event.task.try_number}")
    elif body.get("dag_id"):
        parts.append(" / ".join(str(body[key]) for key in ("dag_id", "run_id") if body.get(key)))
    if event.kind == "manual.change":
        parts.append(" -> ".join(str(body[key]) for key in ("change", "state") if body.get(key)))
    for key in ("reason", "reasons", "error", "message"):
        if body.get(key):
            parts.append(f"{key}: {body[key]}")
    text = "; ".join(parts).replace("\n", " ")
    return text if len(text) <= 200 else text[:197] + "..."
