"""A promotion request as approvers read it in the Airflow UI: Markdown, evidence beside the decision."""

from airgate.contracts.payloads import Verdict
from airgate.contracts.promotion import PromotionRequest


def subject_of(request: PromotionRequest) -> str:
    """One line: what is to happen."""
    return f"put {request.model} version {request.version} into {request.to_stage}?"


def body_of(request: PromotionRequest, verdict: Verdict) -> str:
    """The request, the gates with their numbers, and the digest that an answer is given for."""
    candidate = verdict.candidate
    rows = [f"| {gate.name} | {'passed' if gate.passed else '**failed**'} | {_cell(gate.evidence)} |" for gate in verdict.gates]
    return "\n".join([
        f"**{request.model} version {request.version}** would replace "
        f"{'version ' + request.expected_current if request.expected_current else 'nothing: it is the first'} "
        f"in {request.to_stage}.",
        "",
        f"Trained by {', '.join(request.requesters)} on {candidate.window.start} to {candidate.window.end} "
        f"(data commit `{candidate.data_revision[:12]}`), code `{request.code_version}`.",
        "",
        "| gate | result | evidence |", "|---|---|---|", *rows,
        "",
        f"Answer before {request.expires_at:%Y-%m-%d %H:%M} UTC. You approve exactly this request:",
        "",
        f"`{request.digest()}`",
    ])


def _cell(text: str) -> str:
    """A text that stays inside its table cell."""
    return text.replace("|", "\\|").replace("\n", " ")
