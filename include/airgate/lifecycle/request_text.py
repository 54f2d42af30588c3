"""A promotion request as approvers read it in the Airflow UI: Markdown, evidence beside the decision.

The gates are a list, not a table: Airflow shows the request in a narrow panel, where a table's last column is cut off. The
reports' table has two narrow columns.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from airgate.contracts.model_spec import PromotionSpec
from airgate.contracts.payloads import GateResult, Verdict
from airgate.contracts.promotion import PromotionRequest
from airgate.lifecycle.markdown import plain
from airgate.lifecycle.reports import CALLED

# Of a digest as people compare it: half of it, which nobody can match by trying, and it fits the panel.
_SHOWN = len("sha256:") + 16


def statements_of(rules: PromotionSpec, request_of: str, to_stage: str, environment: str,
                  reports: Iterable[str]) -> dict[str, str]:
    """What an approval means, by role: what the person reviewed (model.yaml may say it otherwise), and what is accepted.

    `request_of` is 'm version 3'; `reports` are the names of those the request has.
    """
    *most, last = [f"the {CALLED.get(name, name)}" for name in _in_order(reports)]
    reviewed = f"I reviewed {', '.join(most)} and {last}." if most else f"I reviewed {last}."
    accepted = f"I accept that {request_of} goes to {to_stage} in {environment}."
    return {role: f"{' '.join(rules.statements.get(role, reviewed).split())} {accepted}" for role in rules.approvers}


def subject_of(request: PromotionRequest) -> str:
    """One line: what is to happen."""
    return f"put {request.model} version {request.version} into {request.to_stage}?"


def body_of(request: PromotionRequest, verdict: Verdict, answer_by: datetime) -> str:
    """The request, the gates with their numbers, the reports, what an approval says, and the digest that it is given for.

    Made from its arguments alone, so that it can be made again and compared. `answer_by` is when an answer that is missing
    becomes a refusal.
    """
    passed = sum(gate.passed for gate in verdict.gates)
    return "\n\n".join(part for part in (
        _what(request),
        f"**{passed} of {len(verdict.gates)} gates passed**",
        "\n".join(_line(gate) for gate in verdict.gates),
        _reports(request.reports),
        _links(request.links),
        _origin(request, verdict),
        _meaning(request.statements),
        f"No answer by {answer_by:%Y-%m-%d %H:%M} UTC is a refusal, and so is an answer without a reason.",
        "You approve exactly this request:",
        f"`{request.digest()}`",
    ) if part)


def _what(request: PromotionRequest) -> str:
    replaced = f"version {request.expected_current}" if request.expected_current else "nothing: it is the first"
    way = f"would go from {request.from_stage} to {request.to_stage} and replace {replaced}" if request.from_stage \
        else f"would replace {replaced} in {request.to_stage}"
    where = f" Environment: **{plain(request.environment)}**." if request.environment else ""
    return f"**{request.model} version {request.version}** {way}.{where}"


def _line(gate: GateResult) -> str:
    result = "passed" if gate.passed else "**FAILED**"
    return f"- **{plain(gate.name)}** {result}: {plain(gate.evidence)}"


def _reports(reports: Mapping[str, str]) -> str:
    rows = [f"| {plain(CALLED.get(name, name))} | `{reports[name][:_SHOWN]}` |" for name in _in_order(reports)]
    return "\n".join(["| report | digest |", "|---|---|", *rows]) if rows else ""


def _links(links: Mapping[str, str]) -> str:
    return " · ".join(f"[{plain(name)}]({address})" for name, address in sorted(links.items()))


def _origin(request: PromotionRequest, verdict: Verdict) -> str:
    candidate = verdict.candidate
    people_first = sorted(request.requesters, key=lambda requester: not requester.startswith("user:"))
    return (f"Trained on the days up to {candidate.window.end - timedelta(days=1)}: data commit "
            f"`{candidate.data_revision[:12]}`, code `{request.code_version[:12]}`, MLflow run `{candidate.mlflow_run_id[:12]}`."
            f"\n\nAsked for by {' and '.join(map(_who, people_first))}; whoever asked cannot approve, under no account.")


def _meaning(statements: Mapping[str, str]) -> str:
    """By Approve, a person says this: it is kept with the approval."""
    said = [f"- {plain(role.replace('_', ' '))}: \"{plain(text)}\"" for role, text in sorted(statements.items())]
    return "\n".join(["**Approve says**", "", *said]) if said else ""


def _in_order(reports: Iterable[str]) -> list[str]:
    """Always the same order: the log sorts the keys of what it keeps."""
    return sorted(reports, key=lambda name: (list(CALLED).index(name) if name in CALLED else len(CALLED), name))


def _who(requester: str) -> str:
    """'user:mia' as 'mia', 'asset:x.validated' as 'the asset x.validated'."""
    kind, _, name = requester.partition(":")
    return plain(name if kind == "user" else f"the {kind} {name}")
