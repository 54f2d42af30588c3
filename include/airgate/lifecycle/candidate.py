"""Validation's first task: which version is to be judged, and is it really the one that training registered?"""

from typing import Any

from airflow.sdk import BaseOperator

from airgate.audit import signed
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.payloads import Candidate
from airgate.contracts.runs import dag_id
from airgate.errors import GateError
from airgate.lifecycle import recording
from airgate.runtime.live import live_of

REGISTER_TASK = "register"


class CandidateOperator(BaseOperator):
    """Finds the candidate that an asset event names, or the newest one when the DAG was started by hand.

    An asset event can be posted by anyone who may write assets, so its payload only says where to look: what counts is
    the output that training's `register` task left in the audit log. What is in production the log says too: whoever may write
    to MLflow could move its alias to a version of their own, which would then be fetched. Gives {"candidate": ...,
    "production": ..., "signatures": envelopes of their registrations}, each under its own XCom key too.
    """

    airgate_role = "candidate"

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        super().__init__(**options)
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Give the candidate and the version in production. Raises GateError when the log knows no such candidate."""
        recorded = candidate_of(self.spec, recording.payloads(context))
        live = live_of(self.spec.name)
        found: dict[str, Any] = {
            "candidate": recorded.model_dump(mode="json"),
            # empty, not None: Airflow takes an XCom that is None for one that is missing
            "production": {key: live[key] for key in ("model", "version", "digest")} if live else {},
            "signatures": signatures(recorded.model, candidate=recorded.version, production=live["version"] if live else None),
        }
        for key, value in found.items():
            context["ti"].xcom_push(key=key, value=value)
        self.log.info("candidate is version %s, production is version %s", recorded.version, live["version"] if live else "none")
        return found


def signatures(model: str, **versions: str | None) -> dict[str, Any]:
    """The envelopes in which the registrations of versions were signed, by the names given; {} for one without.

    Whoever reads the versions verifies them, so nothing here needs to be believed.
    """
    log = recording.store()
    events = {name: signed.registration_of(log, model, version) if version else None for name, version in versions.items()}
    return {name: signed.envelope_of(event) or {} for name, event in events.items()}


def candidate_of(spec: ModelSpec, payloads: list[dict[str, Any]]) -> Candidate:
    """The newest candidate among the payloads as the log has it; without payloads the newest of all."""
    training = dag_id(spec.name, "training")
    runs = [str(payload.get("training_run", "")) for payload in payloads]
    event = recording.newest_success(training, REGISTER_TASK, run_id=runs[-1] if runs else None)
    if event is None:
        asked = f"run {runs[-1]!r}" if runs else "any run"
        raise GateError(f"the audit log has no candidate of {spec.name} from {asked} of {training}. "
                        "A candidate is what the 'register' task of a finished training run recorded.")
    return Candidate.model_validate(recording.output_of(event))
