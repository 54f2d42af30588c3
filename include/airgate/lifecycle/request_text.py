"""A promotion request as approvers read it in the Airflow UI: Markdown, evidence beside the decision.

The gates are a list, not a table: Airflow shows the request in a narrow panel, where a table's last column is cut off.
"""

import re
from datetime import datetime, timedelta

from airgate.contracts.payloads import GateResult, Verdict
from airgate.contracts.promotion import PromotionRequest

_MARKDOWN = re.compile(r"([\\`*\[\]<>|#])")


def subject_of(request: PromotionRequest) -> str:
    """One line: what is to happen."""
    return f"put {request.model} version {request.version} into {request.to_stage}?"


def body_of(request: PromotionRequest, verdict: Verdict, answer_by: datetime) -> str:
    """The request, the gates with their numbers, and the digest that an answer is given for.

    `answer_by` is when an answer that is missing becomes a refusal.
    """
    candidate = verdict.candidate
    people_first = sorted(request.requesters, key=lambda requester: not requester.startswith("user:"))
    passed = sum(gate.passed for gate in verdict.gates)
    return "\n".join([
        f"**{request.model} version {request.version}** would replace "
        f"{'version ' + request.expected_current if request.expected_current else 'nothing: it is the first'} "
        f"in {request.to_stage}.",
        "",
        f"**{passed} of {len(verdict.gates)} gates passed**",
        "",
        *(_line(gate) for gate in verdict.gates),
        "",
        f"Trained on the days up to {candidate.window.end - timedelta(days=1)}: data commit `{candidate.data_revision[:12]}`, "
        f"code `{request.code_version[:12]}`, MLflow run `{candidate.mlflow_run_id[:12]}`.",
        "",
        f"Asked for by {' and '.join(map(_who, people_first))}; whoever asked cannot approve.",
        "",
        f"No answer by {answer_by:%Y-%m-%d %H:%M} UTC is a refusal. You approve exactly this request:",
        "",
        f"`{request.digest()}`",
    ])


def _line(gate: GateResult) -> str:
    result = "passed" if gate.passed else "**FAILED**"
    return f"- **{_plain(gate.name)}** {result}: {_plain(gate.evidence)}"


def _who(requester: str) -> str:
    """'user:mia' as 'mia', 'asset:x.validated' as 'the asset x.validated'."""
    kind, _, name = requester.partition(":")
    return _plain(name if kind == "user" else f"the {kind} {name}")


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
