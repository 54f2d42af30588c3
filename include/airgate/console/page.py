"""The page "Governance" as HTML. Every value is escaped by the template engine; the page loads nothing from elsewhere."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airgate.audit.event import AuditEvent, TaskRef
from airgate.console import timeline
from airgate.console.mount import airflow_address
from airgate.console.overview import Overview
from airgate.contracts.runs import approval_task
from airgate.lifecycle.history_report import moment, who

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
    environment.filters.update(moment=moment, about=about, percent=percent, tone=tone, task_page=task_page, who=who,
                               answer_page=answer_page)
    environment.globals["chart"] = timeline
    return environment.get_template(TEMPLATE)


def task_page(task: TaskRef | None) -> str:
    """Where Airflow shows a task instance; empty where there is none."""
    if task is None:
        return ""
    mapped = f"/mapped/{task.map_index}" if task.map_index >= 0 else ""
    dag, run, name = (quote(text, safe="") for text in (task.dag_id, task.run_id, task.task_id))
    return f"{airflow_address()}/dags/{dag}/runs/{run}/tasks/{name}{mapped}"


def answer_page(approval: AuditEvent) -> str:
    """Where Airflow shows what an approver was asked and answered; empty where the record does not tell."""
    role, task = approval.body.get("role"), approval.task
    return f"{task_page(task.model_copy(update={'task_id': approval_task(str(role))}))}/required_actions" if role and task else ""


def percent(share: Any) -> str:
    """A share of 1 in percent; a dash for what is no number."""
    return f"{share:.0%}" if isinstance(share, int | float) else "-"


def tone(event: AuditEvent) -> str:
    """The colour of an event's kind: 'good', 'bad', 'wait' for what somebody should look at, '' for the rest."""
    if event.kind == "gate.verdict":
        return "good" if event.body.get("passed") else "bad"
    if event.kind == "stage.moved":
        return "good" if event.body.get("cause", "promotion") == "promotion" else "wait"
    if event.kind == "registry.changed":
        return "wait" if event.body.get("restored") is True else "bad"
    if event.kind == "drift.verdict":
        return "bad" if event.body.get("drifted") else "good"
    return next((colour for colour, kinds in _TONES.items() if event.kind in kinds), "")


_TONES = {
    "good": ("promotion.approved", "bundle.imported"),
    "bad": ("audit.alarm", "task.failed", "task.upstream_failed", "promotion.refused", "bundle.refused"),
    "wait": ("manual.change", "task.retrying", "promotion.requested", "stage.reverted", "stage.reviewed"),
}


def about(event: AuditEvent) -> str:
    """What an event is about, in one line of at most 500 characters: for a decision, what was decided."""
    body = event.body
    parts = [event.model + (f" v{event.version}" if event.version else "")] if event.model else []
    tell = _TELLERS.get(event.kind)
    if tell is not None:
        parts.append(tell(body))
    elif event.task is not None:
        mapped = f"[{event.task.map_index}]" if event.task.map_index >= 0 else ""
        again = f", try {event.task.try_number}" if event.task.try_number > 1 else ""
        parts = [f"{event.task.dag_id} / {event.task.task_id}{mapped}{again}"]
    elif body.get("dag_id"):
        parts.append(" / ".join(str(body[key]) for key in ("dag_id", "run_id") if body.get(key)))
    if event.kind == "manual.change":
        parts.append(" -> ".join(str(body[key]) for key in ("change", "state") if body.get(key)))
        parts += [] if body.get("change") != "other" else [f"{body.get('method')} {body.get('path')}"]
    for key in ("reason", "reasons", "error", "message"):
        value = body.get(key)
        if value:
            parts.append(f"{key}: {'; '.join(map(str, value)) if isinstance(value, list) else value}")
    text = "; ".join(part for part in parts if part).replace("\n", " ")
    return text if len(text) <= 500 else text[:497] + "..."


def _gates(body: dict[str, Any]) -> str:
    gates = [gate for gate in body.get("gates") or [] if isinstance(gate, dict)]
    failed = [str(gate.get("name")) for gate in gates if not gate.get("passed")]
    if body.get("passed"):
        return f"passed all {len(gates)} gates"
    return f"failed {len(failed)} of {len(gates)} gates: {', '.join(failed)}"


def _request(body: dict[str, Any]) -> str:
    return f"into {body.get('to_stage')}, in place of {_version(body.get('expected_current'))}"


def _move(body: dict[str, Any]) -> str:
    cause = body.get("cause", "promotion")
    what = f"{body.get('stage')}: {_version(body.get('from_version'))} -> {_version(body.get('to_version'))}"
    return what if cause == "promotion" else f"{cause}; {what}"


def _change(body: dict[str, Any]) -> str:
    what = " ".join(str(body[key]) for key in ("what", "subject") if body.get(key))
    change = f"{what}: {body.get('before') or 'nothing'} -> {body.get('after') or 'nothing'}"
    return f"{change}; {'put back' if body.get('restored') is True else body.get('remedy') or 'nothing was put back'}"


def _version(version: Any) -> str:
    return f"version {version}" if version else "nothing"


def _drift(body: dict[str, Any]) -> str:
    found = "drift" if body.get("drifted") else "no drift"
    day = (body.get("window") or {}).get("start")
    return f"{day}: {found}, {percent(body.get('share'))} of columns differ"


# What the body of a kind of decision says in a few words; `about` tells of the other kinds which task they are about.
_TELLERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "gate.verdict": _gates,
    "promotion.requested": _request,
    "promotion.approved": lambda body: f"as {body.get('role')}",
    "promotion.refused": lambda body: "stays out of production",
    "stage.moving": _move,
    "stage.moved": _move,
    "stage.reverted": lambda body: f"given up: {_move(body)}",
    "stage.reviewed": lambda body: f"review of the {body.get('cause')}: {body.get('answer')}",
    "registry.changed": _change,
    "model.signed": lambda body: f"at its {body.get('statement')}",
    "drift.verdict": _drift,
    "retraining.decided": lambda body: "retrain" if body.get("retrain") else "do not retrain",
}
