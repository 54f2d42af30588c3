"""Before anything is scored: which version is in production, and was it put there by a promotion?"""

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator

from airgate import settings
from airgate.contracts.model_spec import ModelSpec
from airgate.contracts.promotion import PRODUCTION
from airgate.errors import PromotionError
from airgate.lifecycle import recording
from airgate.registry.versions import Version
from airgate.runtime import record as step_record
from airgate.runtime.live import checked, live_of


class LiveModelOperator(BaseOperator):
    """Gives {"model", "version", "digest", "data_revision", "window", "signature"} of the version in production.

    Raises PromotionError when there is none, when the registry guard has on record that it is gone from MLflow, when the alias
    names anything but what the last recorded move put there, or when signature, request and approvals of its promotion do
    not verify: an alias that was moved by hand stops inference.
    """

    airgate_role = "live_model"

    def __init__(self, *, spec: ModelSpec, **options: Any) -> None:
        # A stage that is just moving is settled in seconds; then alias and log say the same again.
        super().__init__(**{"retries": 2, "retry_delay": timedelta(seconds=10), **options})
        self.spec = spec

    def execute(self, context: Any) -> dict[str, Any]:
        """Check the alias against the audit log, and the log against signatures, and give the version."""
        # Scoring DAGs are parsed often, and need none of this then.
        from airgate.audit.registry_changes import records
        from airgate.governance import guard
        from airgate.lifecycle.model_verification import trusted, verify_version
        from airgate.registry.versions import Registry

        log, live = recording.store(), live_of(self.spec.name)
        lost = guard.blocking(records(log, self.spec.name), live["version"]) if live else None
        if lost is not None:
            raise PromotionError(lost)
        version = verified(self.spec.name, Registry(settings.load().mlflow_uri).live(self.spec.name), live)
        verify_version(log, trusted(), self.spec.name, version["version"], stage=PRODUCTION).require()
        # The task's own word that it looked: a task that is marked as a success looked at nothing, and a step asks for this.
        log.append_if_absent(step_record.task_event(
            context["ti"], "task.succeeded", "operator", recording.actor_of(context),
            {"operator": self.task_type, **checked(version)}, model=self.spec.name, version=version["version"]))
        self.log.info("version %s is in production", version["version"])
        return version


def verified(model: str, alias: Version | None, live: dict[str, Any] | None) -> dict[str, Any]:
    """Hold MLflow's answer against the last recorded stage move. Pure; see LiveModelOperator."""
    if alias is None and live is None:
        raise PromotionError(f"{model} has no version in {PRODUCTION}: train, validate and promote one first "
                             f"(DAGs {model}_training, {model}_validation, {model}_promotion).")
    if live is None:
        raise PromotionError(f"MLflow calls version {alias and alias.version} of {model} {PRODUCTION}, but by the audit log "
                             "nothing is: it was never promoted, or it was demoted. Promote it; an alias set by hand does not "
                             "count.")
    if alias is None:
        raise PromotionError(f"version {live['version']} of {model} is in {PRODUCTION} by the audit log, but MLflow has no such "
                             "alias. Run the DAG registry_guard, which puts it back; if the version was deleted or changed, "
                             f"start {model}_rollback or promote another one.")
    if (alias.version, alias.digest) != (live["version"], live["digest"]):
        raise PromotionError(f"MLflow calls version {alias.version} of {model} {PRODUCTION}, but the last promotion put version "
                             f"{live['version']} there. Someone moved the alias or changed the version's tags: the DAG "
                             "registry_guard restores both.")
    return live
