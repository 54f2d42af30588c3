"""A promotion's first end: the request that people answer, made from records alone so that it can be made again and compared."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.audit.event import AuditEvent
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate, Verdict
from airgate.contracts.promotion import PRODUCTION, PromotionRequest
from airgate.contracts.runs import dag_id
from airgate.contracts.stages import DEVELOPMENT
from airgate.errors import PromotionError
from airgate.governance import identities, stages
from airgate.governance.promotion import impossible, strangers
from airgate.lifecycle import notify, people, recording, reports, sign
from airgate.lifecycle.request_text import body_of, statements_of, subject_of
from airgate.lifecycle.requesters import who_asked

# An approval given in the last minute must still be usable when the machine was down for a night.
GRACE = timedelta(hours=24)


class RequestPromotion(BaseOperator):
    """Writes the request for the version that passed its gates. Gives {"subject", "body", "digest"} for the approvers.

    A retry finds the request that was already made: its text and digest never change within a run.
    """

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec

    def execute(self, context: Any) -> dict[str, str]:
        """Record `promotion.requested`. Raises PromotionError when no passed verdict stands behind it."""
        from airgate.registry.versions import Registry

        event, verdict = passed_verdict(self.spec, recording.payloads(context))
        registry = Registry(settings.load().mlflow_uri)
        candidate, place = verdict.candidate, stages.read(recording.store(), self.spec.name)
        check_version(candidate, registry.version(self.spec.name, candidate.version).digest, place)
        live = registry.live(self.spec.name)
        check_comparison(verdict, place.state().version, live.version if live else None)
        sign.registration(recording.store(), self.spec.name, candidate.version)  # nobody is asked about what cannot be signed
        request = self._request(context, event, verdict, place)
        recorded = recording.record(context, "promotion.requested", request.model, request.version, request.document(), once=(),
                                    personal=people.in_request(request))
        request = PromotionRequest.model_validate(recorded.body)
        notify.send("promotion.requested", model=request.model, version=request.version, context=context,
                    text=f"{subject_of(request)} Two people are asked to answer by "
                         f"{request.expires_at - GRACE:%Y-%m-%d %H:%M} UTC.")
        return text_of(request)

    def _request(self, context: Any, event: AuditEvent, verdict: Verdict, place: stages.Stages) -> PromotionRequest:
        candidate, rules, now = verdict.candidate, self.spec.promotion, datetime.now(UTC)
        environment, evidence = settings.load().environment, reports.collect(event, verdict)
        who = identities.load(settings.load().people)
        requesters = who_asked(candidate, event, context, who)
        never = "; ".join(impossible(rules, who))
        if never:
            raise PromotionError(f"{self.spec.name}: {never}. Correct model.yaml, or the people file.")
        unknown = strangers(requesters, who)
        if unknown:
            # The error goes on record, and names do not stand there in clear.
            self.log.error("people.yaml does not name %s", ", ".join(unknown))
            raise PromotionError("people.yaml is closed and does not name everybody who asked for this (the task's log does), so "
                                 "nobody could be kept from approving under another name. Add the person, or the account to a "
                                 "person's aliases.")
        return PromotionRequest(
            schema_version=2, model=self.spec.name, version=candidate.version, environment=environment,
            from_stage=place.stage_of(candidate.version) or DEVELOPMENT, model_digest=candidate.digest,
            gates_hash=verdict.judged_by, reports=evidence, links=links_of(candidate),
            statements=statements_of(rules, f"{self.spec.name} version {candidate.version}", PRODUCTION, environment, evidence),
            verdict_event=str(event.event_id), expected_current=place.state().version,
            requesters=requesters, requested_at=now, expires_at=now + timedelta(hours=rules.answer_within_hours) + GRACE,
            code_version=recording.code_version(context), nonce=secrets.token_hex(16),
        )


def check_version(candidate: Candidate, digest: str | None, place: stages.Stages) -> None:
    """Raise PromotionError when the version is not what training made, was archived, or is in production already."""
    name = f"{candidate.model} version {candidate.version}"
    if digest != candidate.digest:
        raise PromotionError(f"{name} carries digest {digest} in MLflow; its training recorded {candidate.digest}. "
                             "Someone changed the version: train a new one.")
    if candidate.version in place.archived:
        raise PromotionError(f"{name} was archived and cannot be promoted again: train a new one.")
    if place.state().version == candidate.version:
        raise PromotionError(f"{name} is in production already: there is nothing to ask for.")


def check_comparison(verdict: Verdict, current: str | None, alias: str | None) -> None:
    """Raise PromotionError when the gates compared with another version than the log, or MLflow's alias, has in production."""
    model, version = verdict.candidate.model, verdict.candidate.version
    if alias != current:
        raise PromotionError(f"MLflow says that version {alias or 'none'} of {model} is in production; the last move on record "
                             f"put version {current or 'none'} there. The registry was changed by hand: the DAG registry_guard "
                             "puts it back. Then clear this task.")
    if verdict.production_version != current:
        raise PromotionError(f"{model} version {version} was compared with version {verdict.production_version or 'none'}, but "
                             f"version {current or 'none'} is in production now. Run {dag_id(model, 'validation')} again.")


def passed_verdict(spec: ModelSpec, payloads: list[dict[str, Any]]) -> tuple[AuditEvent, Verdict]:
    """The verdict an asset event names, or the newest one; as validation recorded it, and only when it passed and still counts.

    It counts until the version is judged again, or the thresholds in model.yaml change. Raises PromotionError.
    """
    named = str(payloads[-1].get("event_id", "")) if payloads else ""
    event = recording.by_id(named) if named else newest_verdict(spec.name)
    if event is None or not _is_verdict(event, spec.name):
        raise PromotionError(f"the audit log has no gate verdict {named} for {spec.name} from {dag_id(spec.name, 'validation')}. "
                             "Run it first.")
    verdict = Verdict.model_validate(event.body)
    name = f"{spec.name} version {verdict.candidate.version}"
    if not verdict.passed:
        failed = ", ".join(gate.name for gate in verdict.gates if not gate.passed)
        raise PromotionError(f"{name} did not pass: {failed}. It cannot be promoted.")
    newest = newest_verdict(spec.name, event.version)
    if newest is not None and newest.event_id != event.event_id:
        raise PromotionError(f"verdict {event.event_id} of {name} was overtaken: {_judged(newest)}. Only the newest counts: "
                             "a pass has a promotion run of its own.")
    thresholds = spec.gates.fingerprint()
    if verdict.judged_by != thresholds:
        raise PromotionError(f"{name} passed thresholds {verdict.judged_by[:19]}; in model.yaml now are {thresholds[:19]}. "
                             "Nobody is asked about a version that was not held to them: train it, or import it, again.")
    return event, verdict


def newest_verdict(model: str, version: str | None = None) -> AuditEvent | None:
    """The newest verdict on a version, or on any version of a model; only verdicts of the DAGs that judge count."""
    found = recording.store().events(kind="gate.verdict", model=model, newest_first=True)
    return next((item.event for item in found
                 if _is_verdict(item.event, model) and version in (None, item.event.version)), None)


def overtaken(request: PromotionRequest) -> list[str]:
    """A verdict that was given since and refuses the version, in a reason."""
    newest = newest_verdict(request.model, request.version)
    failed = newest is not None and str(newest.event_id) != request.verdict_event and newest.body.get("passed") is not True
    return [f"after this request {_judged(newest)}"] if newest and failed else []


def _is_verdict(event: AuditEvent, model: str) -> bool:
    return event.kind == "gate.verdict" and event.model == model and event.task is not None \
        and event.task.dag_id in (dag_id(model, "validation"), dag_id(model, "bundle_import"))


def _judged(newest: AuditEvent) -> str:
    run = f"run {newest.task.run_id} of {newest.task.dag_id}" if newest.task else "an unknown run"
    return (f"{run} judged version {newest.version} again at {newest.occurred_at:%Y-%m-%d %H:%M:%S} UTC, and it "
            f"{'passed' if newest.body.get('passed') is True else 'did not pass'}")


def verdict_of(request: PromotionRequest) -> Verdict:
    """The verdict that a request names. Raises PromotionError when the log has lost it."""
    event = recording.by_id(request.verdict_event)
    if event is None:
        raise PromotionError(f"the audit log no longer has verdict {request.verdict_event} that this request stands on.")
    return Verdict.model_validate(event.body)


def text_of(request: PromotionRequest) -> dict[str, str]:
    """What approvers are shown: made from records alone, so that it can be made again and compared."""
    body = body_of(request, verdict_of(request), answer_by=request.expires_at - GRACE)
    return {"subject": subject_of(request), "body": body, "digest": request.digest()}


def links_of(candidate: Candidate) -> dict[str, str]:
    """Pages that show more, by what they show: MLflow's, where it has any, and the page Governance, relative to Airflow's UI."""
    from airflow.sdk.configuration import conf

    model = quote(candidate.model, safe="")
    found = {}
    tracking = urlsplit(settings.load().mlflow_uri)
    if tracking.scheme in ("http", "https") and tracking.hostname:
        place = tracking.netloc.rpartition("@")[2]  # never the password
        found["the version in MLflow"] = (f"{tracking.scheme}://{place}{tracking.path.rstrip('/')}/#/models/{model}/versions/"
                                          f"{quote(candidate.version, safe='')}")
    base = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
    return {**found, "all records of the model": f"{base}/airgate/?model={model}"}
